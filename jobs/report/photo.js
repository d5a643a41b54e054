/* The dialog with one large photo. */
const show = (index) => {
  open = index;
  byId("photo-name").textContent = data.names[index];
  const image = byId("photo-image");
  const link = byId("photo-link");
  const note = byId("photo-missing");
  const original = url(index);
  note.hidden = true;
  note.textContent = changed.has(index)
    ? "The file has changed since it was labelled; the photo that was labelled is no longer there."
    : "The photo is no longer there; this is its thumbnail.";
  image.alt = "The photo, labelled " + labelOf(index, 0);
  const fallBack = () => {
    image.onerror = null;
    image.src = thumbnail(index) || "data:,";
    note.hidden = false;
  };
  image.onerror = fallBack;
  if (original === null) fallBack(); else image.src = original;
  link.hidden = original === null;
  if (original !== null) link.href = original;
  byId("photo-labels").replaceChildren(...data.ids.map((_, rank) => labelBar(labelOf(index, rank), data.probs[rank][index])));
  byId("photo-facts").replaceChildren(...facts(index));
  const position = shown.indexOf(index);
  byId("photo-previous").disabled = position <= 0;
  byId("photo-next").disabled = position < 0 || position >= shown.length - 1;
  if (!dialog.open) dialog.showModal();
};
const facts = (index) => {
  const size = data.bytes[index];
  const entries = [
    ["Size", data.widths[index] + " × " + data.heights[index]],
    ["Bytes", size < 1e6 ? (size / 1e3).toFixed(1) + " kB" : (size / 1e6).toFixed(1) + " MB"],
    ["Changed", new Date(data.mtimes[index] * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC"],
  ];
  if (reviewedId(index) >= 0) entries.push(["A person said", reviewedLabel(index)]);
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

/* Keyboard. */
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
