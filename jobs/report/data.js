/* The data, thumbnails and links of the page. */
const data = JSON.parse(document.getElementById("data").textContent);
const total = data.names.length;
const first = data.probs.length ? data.probs[0] : [];
const inputs = { text: byId("text"), label: byId("label"), min: byId("min"), max: byId("max"), sort: byId("sort") };
const unsure = new Set(data.unsure);
const sheet = byId("sheet");
const dialog = byId("photo");
let shown = [];
let page = 0;
let open = -1;

const labelOf = (index, rank) => { const id = data.ids[rank][index]; return id < 0 ? "" : data.labels[id]; };
const reviewedId = (index) => (data.reviewed === null ? -1 : data.reviewed[index]);
const reviewedLabel = (index) => (reviewedId(index) < 0 ? "" : data.labels[reviewedId(index)]);

/* Thumbnails are chunks of base64 lines that the browser parses after this script; the latest chunks stay split. */
const chunks = new Map();
const thumbnail = (index) => {
  const number = Math.floor(index / data.perChunk);
  if (!chunks.has(number)) {
    const script = byId("thumbnails-" + number);
    /* A chunk is complete once the next chunk has started or the page has ended. */
    if (!script || (document.readyState === "loading" && !script.nextSibling)) return null;
    if (chunks.size > 200) chunks.delete(chunks.keys().next().value);
    chunks.set(number, script.textContent.split("\n"));
  }
  const line = chunks.get(number)[index % data.perChunk];
  return line ? "data:image/webp;base64," + line : "";
};
const unpainted = new Map();
const paint = (image, index) => {
  const source = thumbnail(index);
  if (source === null) { unpainted.set(image, index); return; }
  unpainted.delete(image);
  if (source) image.src = source;
};
const paintUnpainted = () => { for (const [image, index] of unpainted) paint(image, index); };
if (document.readyState === "loading") {
  const timer = setInterval(paintUnpainted, 100);
  document.addEventListener("DOMContentLoaded", () => { clearInterval(timer); paintUnpainted(); });
}

const changed = new Set(data.changed);
const unreadable = new Set(data.unreadable);
const url = (index) => {
  if (data.base === null || changed.has(index) || unreadable.has(index)) return null;
  const encoded = data.encodedNames[index];
  return data.base + (encoded !== undefined ? encoded : data.names[index].split("/").map(encodeURIComponent).join("/"));
};
