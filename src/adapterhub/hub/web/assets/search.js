// The search of a published site: the same ranking and facets as on a server, over one JSON file.
"use strict";

(() => {
  // Fields are called "dataset" or "method", and hide what a form has under these names.
  const form = document.getElementById("search");
  const root = document.body.dataset.root;
  const byId = (id) => document.getElementById(id);
  const PAGE = 25;
  const SHOWN = 8;
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

  // -- the index: columns of numbers into lists of values --------------------------------------
  function unpack(data) {
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
    return { ...data, adapters, holders };
  }

  function rank(query) {
    const scores = new Map(index.adapters.map((_, i) => [i, 0]));
    for (const part of query.toLowerCase().split(/[\s/@,]+/).filter(Boolean)) {
      const best = new Map();
      for (const measure of [likeness, misspelt]) {
        for (const [word, group] of index.holders) {
          const quality = measure(part, word);
          if (quality) for (const [i, weight] of group) best.set(i, Math.max(best.get(i) || 0, quality * weight));
        }
        if (best.size) break;
      }
      for (const i of [...scores.keys()]) {
        if (best.has(i)) scores.set(i, scores.get(i) + best.get(i));
        else scores.delete(i);
      }
    }
    // The index is in the order that breaks ties.
    return [...scores].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([i]) => index.adapters[i]);
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

  const fits = (adapter, chosen, but) => Object.entries(chosen).every(
    ([name, values]) => name === but || adapter.facets[name].some((value) => values.includes(value)));
  const label = (facet, value) => (index.labels[facet] || {})[value] || value;

  // -- drawing -------------------------------------------------------------------------------------
  function row(adapter) {
    const title = make("a", { href: root + adapter.href }, adapter.title);
    if (adapter.subtitle) title.append(" ", make("span", { class: "soft" }, adapter.subtitle));
    const head = make("div", { class: "row-head" }, make("h3", { class: "row-title" }, title));
    if (!missing(adapter.score)) {
      head.append(make("p", { class: "score" }, make("strong", {}, adapter.score_text), ` ${adapter.metric || "score"}`));
    }
    const method = make("li", { class: "chip method" }, adapter.facets.architecture[0]);
    if (adapter.settings) method.append(" ", make("span", { class: "soft" }, adapter.settings));
    const chips = make("ul", { class: "chips", "aria-label": "Properties" }, make("li", { class: "chip model" }, adapter.facets.model[0]), method);
    for (const chip of adapter.chips) chips.append(make("li", { class: "chip" }, chip));
    const status = adapter.facets.status[0];
    const tone = { checked: "badge ok", problem: "badge bad" }[status] || "badge";
    chips.append(make("li", { class: "plainchip" }, make("span", { class: tone }, label("status", status))));
    const item = make("li", { class: "row" }, head, make("p", { class: "row-id" }, adapter.id));
    if (adapter.summary) item.append(make("p", { class: "row-text" }, adapter.summary));
    item.append(chips);
    return item;
  }

  function option(name, value, count, checked) {
    const box = make("input", { type: "checkbox", name, value });
    box.checked = checked;
    return make("li", {}, make("label", {}, box, " ", make("span", {}, label(name, value)), " ", make("span", { class: "count" }, String(count))));
  }

  function facet(name, counts, chosen, open) {
    const values = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    for (const value of chosen) if (!counts.has(value)) values.unshift([value, 0]);
    const first = values.filter(([value], i) => i < SHOWN || chosen.includes(value));
    const rest = values.filter((pair) => !first.includes(pair));
    const box = make("details", { class: "facet", "data-facet": name }, make("summary", {}, index.facets[name]),
      make("ul", {}, ...first.map(([value, count]) => option(name, value, count, chosen.includes(value)))));
    box.open = open;
    if (rest.length) {
      box.append(make("details", { class: "morefacet" }, make("summary", {}, `${rest.length} more`),
        make("ul", {}, ...rest.map(([value, count]) => option(name, value, count, false)))));
    }
    return box;
  }

  function draw() {
    const state = read();
    const ranked = rank(state.words);
    let kept = ranked.filter((adapter) => fits(adapter, state.chosen));
    const order = state.sort || (state.words ? "best" : "name");
    if (ORDERS[order]) kept = [...kept].sort((a, b) => ORDERS[order](a, b) || (a.id < b.id ? -1 : 1));
    const pages = Math.max(1, Math.ceil(kept.length / PAGE));
    const page = Math.min(state.page, pages);

    form.elements.namedItem("q").value = state.words;
    form.elements.namedItem("sort").value = order;
    document.title = `${state.words ? `${state.words} – search` : "Search adapters"} · ${index.hub}`;
    byId("total").replaceChildren(make("strong", {}, kept.length.toLocaleString("en")), ` adapter${kept.length === 1 ? "" : "s"}`);
    byId("results").replaceChildren(make("ul", { class: "rows" }, ...kept.slice((page - 1) * PAGE, page * PAGE).map(row)));
    byId("nothing").hidden = kept.length > 0;

    const focus = document.activeElement;
    const held = focus && focus.type === "checkbox" ? [focus.name, focus.value] : null;
    const opened = new Set([...document.querySelectorAll(".facet[open]")].map((box) => box.dataset.facet));
    const boxes = [];
    for (const name of Object.keys(index.facets)) {
      const counts = new Map();
      for (const adapter of ranked) {
        if (!fits(adapter, state.chosen, name)) continue;
        for (const value of adapter.facets[name]) counts.set(value, (counts.get(value) || 0) + 1);
      }
      const chosen = state.chosen[name] || [];
      if (counts.size > 1 || chosen.length) boxes.push(facet(name, counts, chosen, opened.has(name) || chosen.length > 0));
    }
    byId("facets").replaceChildren(...boxes);
    if (held) {
      const again = [...form.querySelectorAll("input[type=checkbox]")].find((box) => box.name === held[0] && box.value === held[1]);
      if (again) { again.closest("details").open = true; again.focus(); }
    }

    byId("chosen").replaceChildren(...Object.entries(state.chosen).flatMap(([name, values]) => values.map((value) => {
      const rest = { ...state.chosen, [name]: values.filter((other) => other !== value) };
      const link = make("a", { href: address({ ...state, chosen: rest, page: 1 }), "aria-label": `Remove ${index.facets[name]} ${label(name, value)}` },
        `${label(name, value)} `, make("span", { "aria-hidden": "true" }, "×"));
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
  }

  function go(target, top) {
    history.pushState(null, "", target);
    draw();
    if (top) { scrollTo(0, 0); byId("total").scrollIntoView({ block: "nearest" }); }
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
      index = unpack(await (await fetch(form.getAttribute("data-index"))).json());
    } catch (error) {
      console.error(error);
      byId("total").textContent = "The search index could not be read; browse the tasks and languages instead.";
      form.classList.remove("busy");
      return;
    }
    form.classList.remove("busy");
    draw();
    form.addEventListener("submit", (event) => { event.preventDefault(); go(address(fromForm())); });
    form.addEventListener("change", (event) => {
      if (event.target.name === "sort") go(address({ ...read(), sort: event.target.value, page: 1 }));
      else if (event.target.type === "checkbox") go(address(fromForm()));
    });
    let waiting;
    form.elements.namedItem("q").addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { history.replaceState(null, "", address(fromForm())); draw(); }, 150);
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("#chosen a, #pager a, .apply a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      go(link.closest(".apply") ? location.pathname : link.href, true);
    });
    addEventListener("popstate", draw);
    form.setAttribute("data-ready", "true");
  }

  start();
})();
