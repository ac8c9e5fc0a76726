// The search of a published site: the same ranking and facets as on a server, over one file or many parts.
"use strict";

(() => {
  // Fields are called "dataset" or "method", and hide what a form has under these names.
  const form = document.getElementById("search");
  const root = document.body.dataset.root;
  const byId = (id) => document.getElementById(id);
  const PAGE = 25;
  const SHOWN = 8;
  const MOST = 400;
  let index = null;

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // -- words ---------------------------------------------------------------------------------
  const NAME = /[^\s/@_,;:()"']+/g;
  const WORD = /[\p{L}\p{N}]+/gu;
  const trim = (word) => word.replace(/^[.\-+!?*`]+|[.\-+!?*`]+$/g, "");
  const words = (value) => {
    const folded = value.toLowerCase();
    return new Set([...(folded.match(NAME) || []).map(trim), ...(folded.match(WORD) || [])].filter(Boolean));
  };

  function distance(one, other, limit) {
    if (Math.abs(one.length - other.length) > limit) return limit + 1;
    let before = [];
    let row = Array.from({ length: other.length + 1 }, (_, j) => j);
    for (let i = 1; i <= one.length; i += 1) {
      const last = before;
      before = row;
      row = [i];
      for (let j = 1; j <= other.length; j += 1) {
        let cost = Math.min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1));
        if (i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]) cost = Math.min(cost, last[j - 2] + 1);
        row.push(cost);
      }
      if (Math.min(...row) > limit) return limit + 1;
    }
    return row[other.length];
  }

  const likeness = (query, word) => {
    if (query === word) return 1;
    if (query.length >= 2 && word.startsWith(query)) return 0.8;
    return query.length >= 3 && word.includes(query) ? 0.6 : 0;
  };
  const misspelt = (query, word) => {
    if (query.length < 4 || /\d/.test(query)) return 0;
    const limit = query.length < 8 ? 1 : 2;
    return distance(query, word, limit) <= limit ? 0.5 : 0;
  };

  // -- a small index: one file, columns of numbers into lists of values ---------------------------
  function small(data) {
    const adapters = Array.from({ length: data.count }, () => ({ facets: {}, texts: [] }));
    for (const [name, column] of Object.entries(data.columns)) {
      const [group, key] = name.split(".");
      column.at.forEach((at, i) => {
        const value = column.values[at];
        if (group === "facets") adapters[i].facets[key] = value;
        else if (group === "texts") adapters[i].texts.push(value);
        else adapters[i][name] = value;
      });
    }
    const holders = new Map(); // word -> Map(adapter number -> weight)
    const cache = new Map();
    adapters.forEach((adapter, i) => {
      for (const [weight, value] of adapter.texts) {
        if (!cache.has(value)) cache.set(value, words(value));
        for (const word of cache.get(value)) {
          if (!holders.has(word)) holders.set(word, new Map());
          const group = holders.get(word);
          if ((group.get(i) || 0) < weight) group.set(i, weight);
        }
      }
    });
    const label = (facet, value) => (data.labels[facet] || {})[value] || value;
    return {
      ...data,
      whole: true,
      words: async () => [...holders.keys()],
      holders: async (found) => found.map((word) => holders.get(word)),
      facet: async (name) => ({ of: (i) => adapters[i].facets[name], label: (value) => label(name, value) }),
      order: async (name) => {
        const sorted = adapters.map((_, i) => i).sort((i, j) =>
          ORDERS[name](adapters[i], adapters[j]) || (adapters[i].id < adapters[j].id ? -1 : 1));
        const place = new Uint32Array(sorted.length);
        sorted.forEach((i, at) => { place[i] = at; });
        return place;
      },
      rows: async (numbers) => numbers.map((i) => {
        const { facets } = adapters[i];
        const [status] = facets.status;
        return { ...adapters[i], architecture: facets.architecture[0], model: facets.model[0], status, status_label: label("status", status) };
      }),
    };
  }

  // -- a large index: parts that are fetched when they are needed, each once -----------------------
  function large(data, base) {
    const folder = new URL(data.folder, base);
    const kept = new Map();
    const part = (name, kind) => {
      if (!kept.has(name)) {
        kept.set(name, (async () => {
          const answer = await fetch(new URL(name, folder));
          if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
          return answer[kind]();
        })());
        kept.get(name).catch(() => kept.delete(name));
      }
      return kept.get(name);
    };
    const numbers = (text, width) => {
      const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
      return width === 4 ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
    };
    let vocabulary = null; // word -> [part, first byte, one after the last]
    async function know() {
      const found = new Map();
      const parts = await Promise.all(Array.from({ length: data.words }, (_, k) => part(`words-${k}.json`, "json")));
      parts.forEach((one, k) => {
        let at = 0;
        one.words.forEach((word, i) => {
          found.set(word, [k, at, at + one.bytes[i]]);
          at += one.bytes[i];
        });
      });
      vocabulary = found;
    }
    return {
      ...data,
      whole: false,
      words: async () => {
        if (!vocabulary) await know();
        return [...vocabulary.keys()];
      },
      holders: (found) => Promise.all(found.map(async (word) => {
        const [k, first, last] = vocabulary.get(word);
        const bytes = new Uint8Array(await part(`holders-${k}.bin`, "arrayBuffer"));
        const group = new Map();
        let number = 0;
        let at = first;
        while (at < last) {
          let scale = 1;
          while (bytes[at] & 128) {
            number += (bytes[at] & 127) * scale;
            scale *= 128;
            at += 1;
          }
          number += bytes[at] * scale;
          group.set(number, bytes[at + 1]);
          at += 2;
        }
        return group;
      })),
      facet: async (name) => {
        const one = await part(`facet-${name}.json`, "json");
        if (!one.codes) one.codes = numbers(one.at, one.width);
        return { of: (i) => one.values[one.codes[i]], label: (value) => one.labels[value] || value };
      },
      order: async (name) => {
        const one = await part(`order-${name}.json`, "json");
        if (!one.places) one.places = numbers(one.at, one.width);
        return one.places;
      },
      rows: (wanted) => Promise.all(wanted.map(async (i) =>
        (await part(`rows-${Math.floor(i / data.rows)}.json`, "json"))[i % data.rows])),
    };
  }

  async function rank(query) {
    // The numbers of the adapters are in the order that breaks ties.
    let scores = null;
    const asked = query.toLowerCase().split(/[\s/@,]+/).filter(Boolean).map((part) => part.slice(0, 60));
    for (const part of [...new Set(asked)].slice(0, 12)) {
      const known = await index.words();
      const best = new Map();
      for (const measure of [likeness, misspelt]) {
        const qualities = known.map((word) => [word, measure(part, word)]).filter((pair) => pair[1]);
        const groups = await index.holders(qualities.map((pair) => pair[0]));
        groups.forEach((group, at) => {
          for (const [i, weight] of group) best.set(i, Math.max(best.get(i) || 0, qualities[at][1] * weight));
        });
        if (best.size) break;
      }
      if (!scores) scores = best;
      else scores = new Map([...scores].filter(([i]) => best.has(i)).map(([i, score]) => [i, score + best.get(i)]));
    }
    if (!scores) return Array.from({ length: index.count }, (_, i) => i);
    return [...scores].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([i]) => i);
  }

  const missing = (value) => value === null || value === undefined;
  const by = (key, down) => (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
  };
  const ORDERS = {
    recent: by((a) => a.published, true), score: by((a) => a.score, true), downloads: by((a) => a.downloads, true),
    small: by((a) => a.size), large: by((a) => a.size, true), name: by((a) => a.order),
  };

  // -- the state is the address ------------------------------------------------------------------
  function read() {
    const parameters = new URLSearchParams(location.search);
    const chosen = {};
    for (const name of Object.keys(index.facets)) {
      const values = [...new Set(parameters.getAll(name))];
      if (values.length) chosen[name] = values;
    }
    return {
      words: (parameters.get("q") || "").trim(), chosen, sort: parameters.get("sort") || "",
      page: Math.max(1, Number.parseInt(parameters.get("page"), 10) || 1),
    };
  }

  function address(state) {
    const parameters = new URLSearchParams();
    if (state.words) parameters.set("q", state.words);
    for (const [name, values] of Object.entries(state.chosen)) for (const value of values) parameters.append(name, value);
    if (state.sort) parameters.set("sort", state.sort);
    if (state.page > 1) parameters.set("page", state.page);
    const encoded = parameters.toString();
    return encoded ? `?${encoded}` : location.pathname;
  }

  // -- drawing -------------------------------------------------------------------------------------
  function row(adapter) {
    const title = make("a", { href: root + adapter.href }, adapter.title);
    if (adapter.subtitle) title.append(" ", make("span", { class: "soft" }, adapter.subtitle));
    const head = make("div", { class: "row-head" }, make("h3", { class: "row-title" }, title));
    if (!missing(adapter.score)) {
      head.append(make("p", { class: "score" }, make("strong", {}, adapter.score_text), ` ${adapter.metric || "score"}`));
    }
    const method = make("li", { class: "chip method" }, adapter.architecture);
    if (adapter.settings) method.append(" ", make("span", { class: "soft" }, adapter.settings));
    const chips = make("ul", { class: "chips", "aria-label": "Properties" }, make("li", { class: "chip model" }, adapter.model), method);
    for (const chip of adapter.chips) chips.append(make("li", { class: "chip" }, chip));
    const tone = { checked: "badge ok", problem: "badge bad" }[adapter.status] || "badge";
    chips.append(make("li", { class: "plainchip" }, make("span", { class: tone }, adapter.status_label)));
    const item = make("li", { class: "row" }, head, make("p", { class: "row-id" }, adapter.id));
    if (adapter.summary) item.append(make("p", { class: "row-text" }, adapter.summary));
    item.append(chips);
    return item;
  }

  function option(label, name, value, count, checked) {
    const box = make("input", { type: "checkbox", name, value });
    box.checked = checked;
    return make("li", {}, make("label", {}, box, " ", make("span", {}, label(value)), " ", make("span", { class: "count" }, String(count))));
  }

  function fill(box, label, counts, chosen) {
    const name = box.dataset.facet;
    const values = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    for (const value of chosen) if (!counts.has(value)) values.unshift([value, 0]);
    const first = values.filter(([value], i) => i < SHOWN || chosen.includes(value));
    const rest = values.filter((pair) => !first.includes(pair)).slice(0, MOST);
    box.append(make("ul", {}, ...first.map(([value, count]) => option(label, name, value, count, chosen.includes(value)))));
    if (rest.length) {
      box.append(make("details", { class: "morefacet" }, make("summary", {}, `${rest.length} more`),
        make("ul", {}, ...rest.map(([value, count]) => option(label, name, value, count, false)))));
    }
  }

  // Boxes with counts; what nobody looks at is not fetched from a large index.
  async function facets(state, ranked, fits) {
    const opened = new Set([...document.querySelectorAll(".facet[open]")].map((box) => box.dataset.facet));
    const boxes = [];
    for (const name of Object.keys(index.facets)) {
      const chosen = state.chosen[name] || [];
      const box = make("details", { class: "facet", "data-facet": name }, make("summary", {}, index.facets[name]));
      const complete = async () => {
        const one = await index.facet(name);
        const counts = new Map();
        for (const i of ranked) {
          if (!fits(i, name)) continue;
          for (const value of one.of(i)) counts.set(value, (counts.get(value) || 0) + 1);
        }
        fill(box, one.label, counts, chosen);
        return counts.size > 1 || chosen.length > 0;
      };
      if (index.whole || opened.has(name) || chosen.length) {
        if (await complete()) boxes.push(box);
        box.open = opened.has(name) || chosen.length > 0;
      } else {
        box.addEventListener("toggle", () => { complete().catch(failed); }, { once: true });
        boxes.push(box);
      }
    }
    return boxes;
  }

  let turn = 0;

  async function draw() {
    turn += 1;
    const mine = turn;
    const state = read();
    form.elements.namedItem("q").value = state.words;
    const ranked = await rank(state.words);
    const tests = {};
    const labels = {};
    await Promise.all(Object.entries(state.chosen).map(async ([name, values]) => {
      const one = await index.facet(name);
      labels[name] = one.label;
      tests[name] = (i) => one.of(i).some((value) => values.includes(value));
    }));
    const fits = (i, but) => Object.entries(tests).every(([name, test]) => name === but || test(i));
    let kept = ranked.filter((i) => fits(i));
    const order = state.sort || (state.words ? "best" : "name");
    if (ORDERS[order]) {
      const places = await index.order(order);
      kept = [...kept].sort((i, j) => places[i] - places[j]);
    }
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    const page = Math.min(state.page, pages);
    const rows = await index.rows(kept.slice((page - 1) * PAGE, page * PAGE));
    const boxes = await facets(state, ranked, fits);
    if (mine !== turn) return; // somebody typed on

    form.elements.namedItem("sort").value = order;
    document.title = `${state.words ? `${state.words} – search` : "Search adapters"} · ${index.hub}`;
    byId("total").replaceChildren(make("strong", {}, kept.length.toLocaleString("en")), ` adapter${kept.length === 1 ? "" : "s"}`);
    byId("results").replaceChildren(make("ul", { class: "rows" }, ...rows.map(row)));
    byId("nothing").hidden = kept.length > 0;

    const focus = document.activeElement;
    const held = focus && focus.type === "checkbox" ? [focus.name, focus.value] : null;
    byId("facets").replaceChildren(...boxes);
    if (held) {
      const again = [...form.querySelectorAll("input[type=checkbox]")].find((box) => box.name === held[0] && box.value === held[1]);
      if (again) { again.closest("details").open = true; again.focus(); }
    }

    byId("chosen").replaceChildren(...Object.entries(state.chosen).flatMap(([name, values]) => values.map((value) => {
      const rest = { ...state.chosen, [name]: values.filter((other) => other !== value) };
      const shown = labels[name](value);
      const link = make("a", { href: address({ ...state, chosen: rest, page: 1 }), "aria-label": `Remove ${index.facets[name]} ${shown}` },
        `${shown} `, make("span", { "aria-hidden": "true" }, "×"));
      return make("li", { class: "chip" }, link);
    })));

    const pager = byId("pager");
    pager.replaceChildren();
    if (pages > 1) {
      const to = (number, name, relation) => make("a", { class: "button", rel: relation, href: address({ ...state, page: number }) }, name);
      pager.append(make("nav", { class: "pager", "aria-label": "Pages" },
        page > 1 ? to(page - 1, "Previous", "prev") : make("span"), make("span", {}, `Page ${page} of ${pages}`),
        page < pages ? to(page + 1, "Next", "next") : make("span")));
    }
    form.setAttribute("data-drawn", location.search);
  }

  function failed(error) {
    console.error(error);
    byId("total").textContent = "The search index could not be read; browse the tasks and languages instead.";
    form.classList.remove("busy");
  }

  const redraw = () => draw().catch(failed);

  function go(target, top) {
    history.pushState(null, "", target);
    redraw().then(() => { if (top) { scrollTo(0, 0); byId("total").scrollIntoView({ block: "nearest" }); } });
  }

  function fromForm() {
    const state = { ...read(), words: form.elements.namedItem("q").value.trim(), page: 1, chosen: {} };
    for (const box of form.querySelectorAll("input[type=checkbox]:checked")) {
      state.chosen[box.name] = [...(state.chosen[box.name] || []), box.value];
    }
    return state;
  }

  async function start() {
    form.classList.add("busy");
    try {
      const place = new URL(form.getAttribute("data-index"), location.href);
      const data = await (await fetch(place)).json();
      index = data.format === 2 ? large(data, place) : small(data);
      // The first page of a large hub is written already; its index waits until somebody searches.
      if (index.whole || location.search.length > 1) await draw();
    } catch (error) {
      failed(error);
      return;
    }
    form.classList.remove("busy");
    form.addEventListener("submit", (event) => { event.preventDefault(); go(address(fromForm())); });
    form.addEventListener("change", (event) => {
      if (event.target.name === "sort") go(address({ ...read(), sort: event.target.value, page: 1 }));
      else if (event.target.type === "checkbox") go(address(fromForm()));
    });
    let waiting;
    form.elements.namedItem("q").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { history.replaceState(null, "", address(fromForm())); redraw(); }, 150);
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("#chosen a, #pager a, .apply a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      go(link.closest(".apply") ? location.pathname : link.href, true);
    });
    addEventListener("popstate", redraw);
    form.setAttribute("data-ready", "true");
  }

  start();
})();
