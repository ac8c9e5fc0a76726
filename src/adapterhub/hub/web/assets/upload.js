// Choosing, dropping and sending files, with what the hub says beside each. Without this the form works, too.
"use strict";

const form = document.getElementById("publish");
const list = document.getElementById("filelist");
const drop = document.getElementById("drop");
const refusal = document.getElementById("refusal");
const chosen = new Map(); // path in the repository -> File
const LITTER = /(^|\/)(\.git|\.cache|__pycache__|__MACOSX)\/|(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini)$/;

const make = (tag, content, attributes = {}) => {
  const element = document.createElement(tag);
  element.textContent = content;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

function size(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000 || unit === "GB") return `${unit === "B" ? value : value.toFixed(1)} ${unit}`;
    value /= 1000;
  }
  return "";
}

function show(problems = {}) {
  list.replaceChildren();
  const paths = [...new Set([...chosen.keys(), ...Object.keys(problems).filter(Boolean)])].sort();
  for (const path of paths) {
    const item = make("li", "");
    item.append(make("code", path));
    const file = chosen.get(path);
    item.append(make("span", file ? size(file.size) : "", { class: "soft" }));
    if (file) {
      const button = make("button", "Leave out", { type: "button", class: "button small", "aria-label": `Leave out ${path}` });
      button.addEventListener("click", () => { chosen.delete(path); show(); });
      item.append(button);
    }
    const lines = problems[path] || [];
    if (lines.length) {
      item.className = "wrong";
      const reasons = make("ul", "");
      reasons.append(...lines.map((line) => make("li", line)));
      item.append(reasons);
    }
    list.append(item);
  }
  list.hidden = !paths.length;
}

function add(files) {
  for (const [path, file] of files) if (!LITTER.test(path)) chosen.set(path, file);
  const name = form.elements.namedItem("name");
  const folder = files.find(([, file]) => file.webkitRelativePath);
  if (!name.value && folder) name.value = folder[1].webkitRelativePath.split("/")[0].replace(/[^A-Za-z0-9._-]+/g, "-");
  show();
}

const inside = (file) => file.webkitRelativePath.split("/").slice(1).join("/") || file.name;

for (const input of form.querySelectorAll("input[type=file]")) {
  input.addEventListener("change", () => {
    add([...input.files].map((file) => [inside(file), file]));
    input.value = "";
  });
}

async function walk(entry, prefix) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [[prefix + entry.name, file]];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader gives a hundred at a time
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found;
    for (const child of part) found.push(...await walk(child, `${prefix}${entry.name}/`));
  }
}

async function dropped(event) {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = (await Promise.all(entries.map((entry) => walk(entry, "")))).flat();
  const only = entries.length === 1 && entries[0].isDirectory;
  add(found.map(([path, file]) => [only ? path.split("/").slice(1).join("/") : path, file]));
  const name = form.elements.namedItem("name");
  if (only && !name.value) name.value = entries[0].name.replace(/[^A-Za-z0-9._-]+/g, "-");
}

drop.classList.add("ready");
drop.querySelector(".droptext").hidden = false;
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
drop.addEventListener("dragleave", (event) => { if (!drop.contains(event.relatedTarget)) drop.classList.remove("over"); });
drop.addEventListener("drop", dropped);

function refuse(error, problems) {
  const box = make("div", "", { class: "notice bad", role: "alert" });
  const texts = problems[""] || [];
  const beside = Object.keys(problems).some(Boolean);
  const head = make("p", "");
  head.append(texts.length || beside ? make("strong", "Nothing was published.") : error);
  if (beside) head.append(" What is wrong stands beside each file.");
  box.append(head);
  if (texts.length) {
    const reasons = make("ul", "");
    reasons.append(...texts.map((line) => make("li", line)));
    box.append(reasons);
  }
  refusal.replaceChildren(box);
  show(problems);
  refusal.scrollIntoView({ block: "center" });
}

function send() {
  const data = new FormData();
  // The token comes before the files, which are not taken without it.
  for (const [key, value] of new FormData(form)) if (!(value instanceof File)) data.append(key, value);
  for (const [path, file] of chosen) data.append("files", file, path);
  const button = document.getElementById("send");
  const progress = document.getElementById("progress");
  const bar = document.getElementById("bar");
  const percent = document.getElementById("percent");
  const request = new XMLHttpRequest();
  const done = () => { button.disabled = false; progress.hidden = true; };
  request.upload.addEventListener("progress", (event) => {
    if (!event.lengthComputable) return;
    bar.value = event.loaded / event.total;
    percent.textContent = event.loaded < event.total ? `${Math.floor(100 * bar.value)} %` : "Checking …";
  });
  request.addEventListener("load", () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* told below */ }
    if (request.status === 200 && answer.page) {
      location.href = answer.page;
      return;
    }
    done();
    refuse(answer.error || `The hub answered with status ${request.status}.`, answer.files || {});
  });
  request.addEventListener("error", () => { done(); refuse("The hub could not be reached. Nothing was published; try again.", {}); });
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  refusal.replaceChildren();
  button.disabled = true;
  progress.hidden = false;
  percent.textContent = "0 %";
  request.send(data);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
