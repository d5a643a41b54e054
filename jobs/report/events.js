/* What the page's controls do. */
const filters = byId("filters");
let pending = 0;
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", () => { clearTimeout(pending); pending = setTimeout(refresh, 80); });
filters.addEventListener("reset", () => setTimeout(refresh));
sheet.addEventListener("click", (event) => {
  const button = event.target.closest(".card");
  if (button) show(Number(button.dataset.index));
});
const turnBy = (by) => { turnTo(page + by); byId("photos").scrollIntoView(); };
byId("previous").addEventListener("click", () => turnBy(-1));
byId("next").addEventListener("click", () => turnBy(1));
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

/* The page's HTML has the first failed photos; a button adds the others. */
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
refresh();
