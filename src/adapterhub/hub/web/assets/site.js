// Small conveniences; every page works without them.
"use strict";

const text = (tag, content, attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = content;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

async function copy(button, content) {
  const label = button.dataset.label || button.textContent;
  button.dataset.label = label;
  try {
    await navigator.clipboard.writeText(content);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = label; }, 1600);
}

function addCopyButtons() {
  for (const box of document.querySelectorAll(".code")) {
    const button = text("button", "Copy", { type: "button", class: "copy" });
    button.addEventListener("click", () => copy(button, box.querySelector("code").textContent));
    box.append(button);
    const pre = box.querySelector("pre");
    if (pre.scrollWidth > pre.clientWidth) pre.tabIndex = 0; // so that a keyboard can scroll it
  }
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button, button.dataset.copy));
  }
}

function makeTabs(box) {
  const panels = [...box.querySelectorAll(":scope > .snippet")];
  if (panels.length < 2) return;
  const list = text("div", "", { class: "tablist", role: "tablist", "aria-label": "Library" });
  const tabs = panels.map((panel, index) => {
    const id = `snippet-${index}`;
    const tab = text("button", panel.querySelector("h3").textContent, {
      type: "button", role: "tab", id: `${id}-tab`, "aria-controls": id,
    });
    panel.id = id;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `${id}-tab`);
    list.append(tab);
    return tab;
  });
  const choose = (chosen, focus) => {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
    if (focus) tabs[chosen].focus();
  };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(index));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) choose((index + step + tabs.length) % tabs.length, true);
    });
  });
  panels[0].before(list);
  box.classList.add("tabbed");
  choose(0);
}

function makeFilter(box) {
  const input = box.querySelector("input");
  const status = box.querySelector("[role=status]");
  const scope = box.closest("section") || document;
  const items = [...scope.querySelectorAll(box.dataset.filter)];
  box.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items) {
      const hay = `${item.dataset.text} ${item.textContent}`.toLowerCase();
      item.hidden = !words.every((word) => hay.includes(word));
      shown += item.hidden ? 0 : 1;
    }
    for (const details of document.querySelectorAll("main details.panel")) {
      if (words.length) details.open = true;
    }
    status.textContent = words.length ? `${shown} of ${items.length}` : "";
  });
}

// Two versions side by side, where no server can compare them: from the JSON beside the page.
function makeComparison(form) {
  const serverSide = !form.hidden;
  if (serverSide) return;
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const page = await (await fetch("index.json")).json();
    const [one, two] = ["from", "to"].map((name) => {
      const value = form.elements.namedItem(name).value;
      return page.detail.versions.find((version) => version.name === value);
    });
    showComparison(one, two, page.tensors);
  });
}

function showComparison(one, two, tensors) {
  const rows = [];
  const add = (label, before, after, ratio) => {
    if (JSON.stringify(before ?? null) !== JSON.stringify(after ?? null)) rows.push([label, before, after, ratio]);
  };
  for (const name of ["published", "description", "score", "parameters", "url", "sha256"]) add(name, one[name], two[name]);
  for (const name of new Set([...Object.keys(one.metrics), ...Object.keys(two.metrics)])) add(name, one.metrics[name], two.metrics[name]);
  const flat = (version) => Object.assign({}, ...Object.values(tensors[version.name] || {}).map(
    (list) => Object.fromEntries(list.map((tensor) => [tensor.name, tensor]))));
  const [before, after] = [flat(one), flat(two)];
  const say = (tensor) => tensor && `${tensor.dtype} ${tensor.shape.join(" × ")}${tensor.norm === null ? "" : `, norm ${tensor.norm.toPrecision(4)}`}`;
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [a, b] = [before[name], after[name]];
    add(name, say(a), say(b), a?.norm && b?.norm ? b.norm / a.norm - 1 : undefined);
  }
  const box = document.getElementById("compared");
  box.replaceChildren();
  if (!rows.length) return box.append(text("p", "Nothing differs."));
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const label of ["What", one.name, two.name, "Change"]) head.append(text("th", label, { scope: "col" }));
  const body = table.createTBody();
  for (const [label, a, b, ratio] of rows) {
    const row = body.insertRow();
    row.append(text("th", label, { scope: "row" }), text("td", a ?? "–", { class: "wrapany" }), text("td", b ?? "–", { class: "wrapany" }));
    row.append(text("td", ratio === undefined ? "" : `${ratio >= 0 ? "+" : ""}${(100 * ratio).toFixed(1)} %`, { class: "num" }));
  }
  const scroll = text("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" });
  scroll.append(table);
  box.append(scroll);
}

// Adapters side by side on a published site: from the JSON beside the page of each.
async function fillSideBySide(box) {
  const asked = [...new Set(new URLSearchParams(location.search).getAll("a").filter(Boolean))].slice(0, 4);
  const inputs = document.querySelectorAll("form.picktwo input");
  asked.forEach((name, index) => { inputs[index].value = name; });
  if (!asked.length) return;
  const root = box.dataset.sidebyside;
  const index = await (await fetch(`${root}search-index.json`)).json();
  const { id, href } = index.columns;
  const place = new Map(id.at.map((at, i) => [id.values[at], href.values[href.at[i]]]));
  const known = asked.filter((name) => place.has(name));
  if (!known.length) {
    box.append(text("p", "None of these is in this hub. Write identifiers like @owner/name.", { class: "panel" }));
    return;
  }
  const tables = await Promise.all(known.map(async (name) =>
    new Map((await (await fetch(`${root}${place.get(name)}index.json`)).json()).figures)));
  const table = text("table", "", { class: "sidebyside" });
  const head = table.createTHead().insertRow();
  const corner = text("th", "", { scope: "col" });
  corner.append(text("span", "Property", { class: "vh" }));
  head.append(corner);
  for (const name of known) {
    const cell = text("th", "", { scope: "col" });
    cell.append(text("a", name, { href: root + place.get(name) }));
    head.append(cell);
  }
  const body = table.createTBody();
  for (const label of new Set(tables.flatMap((figures) => [...figures.keys()]))) {
    const values = tables.map((figures) => figures.get(label));
    const same = new Set(values).size === 1;
    if (same && label.startsWith("config.")) continue;
    const row = body.insertRow();
    if (!same) row.className = "differs";
    row.append(text("th", label, { scope: "row" }), ...values.map((value) => text("td", value ?? "–")));
  }
  const scroll = text("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" });
  scroll.append(table);
  box.append(scroll);
}

addCopyButtons();
document.querySelectorAll("[data-sidebyside]").forEach(fillSideBySide);
document.querySelectorAll("[data-tabs]").forEach(makeTabs);
document.querySelectorAll("[data-filter]").forEach(makeFilter);
document.querySelectorAll("[data-compare]").forEach(makeComparison);
for (const form of document.querySelectorAll("form[data-submit]")) {
  form.addEventListener("change", (event) => { if (event.target.type !== "search") form.requestSubmit(); });
}
const filters = document.querySelector("details.filters");
if (filters && matchMedia("(max-width: 60rem)").matches) filters.open = false;
