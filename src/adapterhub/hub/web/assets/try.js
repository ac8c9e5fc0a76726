// Shows what comes of a text below the form, instead of on a page of its own.
"use strict";

function wire(form) {
  const box = form.parentElement.querySelector("#outcome");
  const button = form.querySelector("button[type=submit]");
  let latest = 0;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const mine = ++latest;
    button.setAttribute("aria-busy", "true");
    box.classList.add("waiting");
    try {
      const answer = await fetch(form.action, {
        method: "POST",
        body: form.enctype === "multipart/form-data" ? new FormData(form) : new URLSearchParams(new FormData(form)),
        headers: { Accept: "text/html" },
      });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = page.getElementById("outcome");
      if (mine !== latest) return;
      if (found) box.replaceChildren(...[...found.childNodes].map((node) => document.adoptNode(node)));
      else say(box, page.querySelector("main h1")?.textContent || `The hub answers ${answer.status}.`);
      // Links in what came are relative to the page that it is from.
      const root = document.body.dataset.root;
      for (const link of box.querySelectorAll("a[href^='../']")) {
        link.setAttribute("href", root + link.getAttribute("href").replace(/^(\.\.\/)+/, ""));
      }
    } catch {
      if (mine === latest) say(box, "The hub cannot be reached.");
    } finally {
      if (mine === latest) {
        button.removeAttribute("aria-busy");
        box.classList.remove("waiting");
      }
    }
  });
  for (const area of form.querySelectorAll("textarea")) {
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }
}

function say(box, text) {
  const line = document.createElement("p");
  line.className = "panel notice";
  line.textContent = text;
  box.replaceChildren(line);
}

document.querySelectorAll("form[data-try]").forEach(wire);
