"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const total = data.names.length;
  const first = data.probs.length ? data.probs[0] : [];
  const byId = (id) => document.getElementById(id);
  const inputs = { text: byId("text"), label: byId("label"), min: byId("min"), max: byId("max"), sort: byId("sort") };
  const sheet = byId("sheet");
  const dialog = byId("photo");
  let shown = [];
  let page = 0;
  let open = -1;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const percent = (permyriad) => (permyriad / 100).toFixed(permyriad < 9950 && permyriad >= 50 ? 0 : 1) + "%";
  const labelOf = (index, rank) => { const id = data.ids[rank][index]; return id < 0 ? "" : data.labels[id]; };
  const counted = (number) => number.toLocaleString("en");

  /* Thumbnails: chunks of base64 lines, parsed by the browser after this script; a few are kept split. */
  const chunks = new Map();
  const thumbnail = (index) => {
    const number = Math.floor(index / data.perChunk);
    if (!chunks.has(number)) {
      const script = byId("thumbnails-" + number);
      /* The next chunk's start, or the page's end, tells that this one has arrived whole. */
      if (!script || (document.readyState === "loading" && !script.nextSibling)) return null;
      if (chunks.size > 40) chunks.delete(chunks.keys().next().value);
      chunks.set(number, script.textContent.split("\n"));
    }
    const line = chunks.get(number)[index % data.perChunk];
    return line ? "data:image/webp;base64," + line : "";
  };
  const waiting = new Map();
  const paint = (image, index) => {
    const source = thumbnail(index);
    if (source === null) { waiting.set(image, index); return; }
    waiting.delete(image);
    if (source) image.src = source;
  };
  const paintWaiting = () => { for (const [image, index] of waiting) paint(image, index); };
  if (document.readyState === "loading") {
    const timer = setInterval(paintWaiting, 100);
    document.addEventListener("DOMContentLoaded", () => { clearInterval(timer); paintWaiting(); });
  }

  const url = (index) => {
    if (data.base === null) return null;
    const odd = data.odd[index];
    return data.base + (odd !== undefined ? odd : data.names[index].split("/").map(encodeURIComponent).join("/"));
  };

  /* Filters and order. */
  let searchable = null;
  const haystack = (index) => {
    if (searchable === null) {
      searchable = data.names.map((name, i) => (name + "\n" + data.ids.map((_, rank) => labelOf(i, rank)).join("\n")).toLowerCase());
    }
    return searchable[index];
  };
  const collator = new Intl.Collator("en", { numeric: true });
  const rankOfLabel = () => {
    const order = data.labels.map((_, id) => id).sort((a, b) => collator.compare(data.labels[a], data.labels[b]));
    const ranks = new Array(order.length);
    order.forEach((id, rank) => { ranks[id] = rank; });
    return ranks;
  };
  const sorters = {
    uncertain: () => null,
    certain: () => (a, b) => first[b] - first[a] || a - b,
    name: () => (a, b) => (data.names[a] < data.names[b] ? -1 : 1),
    label: () => { const ranks = rankOfLabel(); return (a, b) => ranks[data.ids[0][a]] - ranks[data.ids[0][b]] || a - b; },
    newest: () => (a, b) => data.mtimes[b] - data.mtimes[a] || a - b,
    largest: () => (a, b) => data.bytes[b] - data.bytes[a] || a - b,
  };
  const clamped = (input, otherwise) => {
    const value = parseFloat(input.value);
    return Number.isFinite(value) ? Math.min(100, Math.max(0, value)) : otherwise;
  };
  const refresh = () => {
    const text = inputs.text.value.trim().toLowerCase();
    const label = inputs.label.value === "" ? -1 : Number(inputs.label.value);
    const low = clamped(inputs.min, 0) * 100;
    const high = clamped(inputs.max, 100) * 100;
    shown = [];
    for (let index = 0; index < total; index++) {
      if (first[index] < low || first[index] > high) continue;
      if (label >= 0 && data.ids[0][index] !== label) continue;
      if (text && !haystack(index).includes(text)) continue;
      shown.push(index);
    }
    const sorter = sorters[inputs.sort.value]();
    if (sorter) shown.sort(sorter);
    mark(label, low, high);
    turnTo(0);
  };
  const mark = (label, low, high) => {
    for (const bar of document.querySelectorAll("[data-label]")) {
      bar.setAttribute("aria-pressed", String(label >= 0 && bar.dataset.label === data.labels[label]));
    }
    for (const bar of document.querySelectorAll("[data-bin]")) {
      const from = Number(bar.dataset.bin) * 500;
      bar.setAttribute("aria-pressed", String((low > 0 || high < 10000) && from >= low && from + 500 <= high));
    }
  };

  /* The contact sheet, one page of it at a time. */
  const pageCount = () => Math.max(1, Math.ceil(shown.length / data.perPage));
  const turnTo = (number) => {
    page = Math.min(pageCount() - 1, Math.max(0, number));
    const begin = page * data.perPage;
    waiting.clear();
    sheet.replaceChildren(...shown.slice(begin, begin + data.perPage).map(card));
    byId("pages").hidden = pageCount() < 2;
    byId("page").value = page + 1;
    byId("page").max = pageCount();
    byId("page-count").textContent = counted(pageCount());
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pageCount() - 1;
    byId("count").textContent = shown.length === total
      ? counted(total) + (total === 1 ? " photo" : " photos")
      : counted(shown.length) + " of " + counted(total) + " photos";
  };
  const card = (index) => {
    const item = element("li");
    const button = element("button", "card");
    button.type = "button";
    button.dataset.index = index;
    const image = element("img", "blank");
    image.alt = "";
    paint(image, index);
    const text = element("span", "text");
    for (let rank = 0; rank < data.ids.length; rank++) {
      if (data.ids[rank][index] < 0) continue;
      const line = element("span", rank === 0 ? "line first" : "line");
      const probability = data.probs[rank][index];
      const certainty = rank > 0 ? "" : probability < 5000 ? "low" : probability >= 9000 ? "high" : "";
      line.append(element("span", "", labelOf(index, rank)), element("span", certainty, percent(probability)));
      text.append(line);
    }
    const file = element("span", "file", data.names[index]);
    text.append(file);
    button.title = data.names[index];
    button.append(image, text);
    item.append(button);
    return item;
  };

  /* One photo, large. */
  const show = (index) => {
    open = index;
    byId("photo-name").textContent = data.names[index];
    const image = byId("photo-image");
    const link = byId("photo-link");
    const missing = byId("photo-missing");
    const original = url(index);
    missing.hidden = true;
    image.alt = "The photo, labelled " + labelOf(index, 0);
    const fallBack = () => {
      image.onerror = null;
      image.src = thumbnail(index) || "data:,";
      missing.hidden = false;
    };
    image.onerror = fallBack;
    if (original === null) fallBack(); else image.src = original;
    link.hidden = original === null;
    if (original !== null) link.href = original;
    byId("photo-labels").replaceChildren(...data.ids.map((_, rank) => labelBar(index, rank)));
    byId("photo-facts").replaceChildren(...facts(index));
    const position = shown.indexOf(index);
    byId("photo-previous").disabled = position <= 0;
    byId("photo-next").disabled = position < 0 || position >= shown.length - 1;
    if (!dialog.open) dialog.showModal();
  };
  const labelBar = (index, rank) => {
    const item = element("li", "bar");
    const probability = data.probs[rank][index];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 100 10");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    for (const [name, width] of [["track", 100], ["fill", probability / 100]]) {
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      rect.setAttribute("class", name);
      rect.setAttribute("width", width);
      rect.setAttribute("height", 10);
      svg.append(rect);
    }
    item.append(element("span", "bar-name", labelOf(index, rank)), element("span", "bar-count", percent(probability)), svg);
    return item;
  };
  const facts = (index) => {
    const size = data.bytes[index];
    const entries = [
      ["Size", data.widths[index] + " × " + data.heights[index]],
      ["Bytes", size < 1e6 ? (size / 1e3).toFixed(1) + " kB" : (size / 1e6).toFixed(1) + " MB"],
      ["Changed", new Date(data.mtimes[index] * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC"],
    ];
    return entries.flatMap(([term, value]) => [element("dt", "", term), element("dd", "", value)]);
  };
  const step = (by) => {
    const position = shown.indexOf(open) + by;
    if (position < 0 || position >= shown.length) return;
    if (Math.floor(position / data.perPage) !== page) turnTo(Math.floor(position / data.perPage));
    show(shown[position]);
  };
  dialog.addEventListener("close", () => {
    byId("photo-image").removeAttribute("src");
    const button = sheet.querySelector('[data-index="' + open + '"]');
    if (button) button.focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  byId("photo-previous").addEventListener("click", () => step(-1));
  byId("photo-next").addEventListener("click", () => step(1));

  /* Keys. */
  const columns = () => getComputedStyle(sheet).gridTemplateColumns.split(" ").length;
  sheet.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
    const by = moves[event.key];
    const cards = [...sheet.querySelectorAll(".card")];
    const target = cards[cards.indexOf(document.activeElement) + by];
    if (by === undefined || !target) return;
    event.preventDefault();
    target.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (dialog.open) {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
      return;
    }
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      inputs.text.focus();
    }
  });

  /* Wiring. */
  const filters = byId("filters");
  let pending = 0;
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", () => { clearTimeout(pending); pending = setTimeout(refresh, 80); });
  filters.addEventListener("reset", () => setTimeout(refresh));
  sheet.addEventListener("click", (event) => {
    const button = event.target.closest(".card");
    if (button) show(Number(button.dataset.index));
  });
  const leaf = (by) => { turnTo(page + by); byId("photos").scrollIntoView(); };
  byId("previous").addEventListener("click", () => leaf(-1));
  byId("next").addEventListener("click", () => leaf(1));
  byId("page").addEventListener("change", (event) => turnTo((parseInt(event.target.value, 10) || 1) - 1));
  const toPhotos = () => { refresh(); byId("photos").scrollIntoView(); };
  for (const bar of document.querySelectorAll("[data-label]")) {
    bar.addEventListener("click", () => {
      const id = String(data.labels.indexOf(bar.dataset.label));
      inputs.label.value = inputs.label.value === id ? "" : id;
      toPhotos();
    });
  }
  for (const bar of document.querySelectorAll("[data-bin]")) {
    bar.addEventListener("click", () => {
      const wasOn = bar.getAttribute("aria-pressed") === "true";
      inputs.min.value = wasOn ? 0 : Number(bar.dataset.bin) * 5;
      inputs.max.value = wasOn ? 100 : Number(bar.dataset.bin) * 5 + 5;
      toPhotos();
    });
  }
  const theme = byId("theme");
  const themes = ["auto", "light", "dark"];
  theme.addEventListener("click", () => {
    const following = themes[(themes.indexOf(document.documentElement.dataset.theme || "auto") + 1) % themes.length];
    document.documentElement.dataset.theme = following;
    theme.textContent = "Theme: " + following;
  });

  /* The failed ones beyond those in the page's own HTML. */
  const more = byId("more-failures");
  if (more) {
    const body = byId("failures");
    const update = () => { more.hidden = body.rows.length >= data.failures.length; };
    more.addEventListener("click", () => {
      const begin = body.rows.length;
      for (const [name, errorClass, reason] of data.failures.slice(begin, begin + 500)) {
        const row = element("tr");
        const why = element("td");
        why.append(element("span", "tag", errorClass));
        row.append(element("td", "name", name), why, element("td", "", reason));
        body.append(row);
      }
      update();
    });
    update();
  }

  const used = new Map();
  for (const id of data.ids.length ? data.ids[0] : []) used.set(id, (used.get(id) || 0) + 1);
  const options = [...used].filter(([id]) => id >= 0).map(([id, count]) => {
    const option = element("option", "", data.labels[id] + " (" + counted(count) + ")");
    option.value = id;
    return option;
  });
  options.sort((a, b) => collator.compare(a.textContent, b.textContent));
  inputs.label.append(...options);
  filters.hidden = total === 0;
  theme.hidden = false;
  refresh();
})();
