/* Filters and sort order. */
let searchTexts = null;
const searchText = (index) => {
  if (searchTexts === null) {
    searchTexts = data.names.map((name, i) => (name + "\n" + data.ids.map((_, rank) => labelOf(i, rank)).join("\n") + "\n" + reviewedLabel(i)).toLowerCase());
  }
  return searchTexts[index];
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
const reviewFilters = {
  yes: (index) => reviewedId(index) >= 0,
  other: (index) => reviewedId(index) >= 0 && reviewedId(index) !== data.ids[0][index],
  no: (index) => reviewedId(index) < 0,
};
const refresh = () => {
  const isWanted = reviewFilters[byId("reviewed") ? byId("reviewed").value : ""];
  const text = inputs.text.value.trim().toLowerCase();
  const label = inputs.label.value === "" ? -1 : Number(inputs.label.value);
  const low = clamped(inputs.min, 0) * 100;
  const high = clamped(inputs.max, 100) * 100;
  const onlyUnsure = byId("unsure") !== null && byId("unsure").checked;
  shown = [];
  for (let index = 0; index < total; index++) {
    if (first[index] < low || first[index] > high) continue;
    if (onlyUnsure && !unsure.has(index)) continue;
    if (label >= 0 && data.ids[0][index] !== label) continue;
    if (isWanted && !isWanted(index)) continue;
    if (text && !searchText(index).includes(text)) continue;
    shown.push(index);
  }
  const sorter = sorters[inputs.sort.value]();
  if (sorter) shown.sort(sorter);
  markPressed(label, low, high);
  turnTo(0);
};
const markPressed = (label, low, high) => {
  for (const bar of document.querySelectorAll("[data-label]")) {
    bar.setAttribute("aria-pressed", String(label >= 0 && bar.dataset.label === data.labels[label]));
  }
  for (const bar of document.querySelectorAll("[data-bin]")) {
    const from = Number(bar.dataset.bin) * 500;
    bar.setAttribute("aria-pressed", String((low > 0 || high < 10000) && from >= low && from + 500 <= high));
  }
};

/* One page of the contact sheet. */
const pageCount = () => Math.max(1, Math.ceil(shown.length / data.perPage));
const turnTo = (number) => {
  page = Math.min(pageCount() - 1, Math.max(0, number));
  const begin = page * data.perPage;
  unpainted.clear();
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
    const confidence = rank > 0 ? "" : probability < 5000 ? "low" : probability >= 9000 ? "high" : "";
    line.append(element("span", "", labelOf(index, rank)), element("span", confidence, percent(probability)));
    text.append(line);
  }
  if (reviewedId(index) >= 0) text.append(element("span", "reviewed", "✓ " + reviewedLabel(index)));
  const file = element("span", "file", data.names[index]);
  text.append(file);
  button.title = data.names[index];
  button.append(image, text);
  item.append(button);
  return item;
};
