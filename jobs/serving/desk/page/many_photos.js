/* Many photos, small, of which several are selected and named at once. */
import { goTo, loadMore, queue } from "./queue.js";
import { pictureUrl } from "./one_photo.js";
import { told } from "./reviews.js";

const grid = byId("grid");
const selected = new Set();
let anchor = null;

const card = (photo, number) => {
  const item = element("li");
  const button = element("button", photo.review.kind === null ? "card" : "card done");
  button.type = "button";
  button.dataset.number = number;
  button.setAttribute("aria-pressed", String(selected.has(photo.sha256)));
  button.title = photo.name;
  const picture = element("img");
  picture.alt = "";
  picture.loading = "lazy";
  picture.src = pictureUrl(photo, "square");
  const text = element("span", "text");
  const [label, probability] = photo.labels[0];
  const line = element("span", "line first");
  line.append(element("span", "", label), element("span", "", percent(probability * 10000)));
  text.append(line);
  if (photo.review.kind !== null) text.append(element("span", "reviewed", "✓ " + told(photo.review)));
  text.append(element("span", "file", photo.name));
  button.append(picture, text);
  item.append(button);
  return item;
};

const showMany = () => {
  const hadFocus = grid.contains(document.activeElement);
  grid.replaceChildren(...queue.photos.map(card));
  if (hadFocus) focusCard(queue.at);
};
const cards = () => [...grid.querySelectorAll(".card")];
const focusCard = (number) => { const found = cards()[number]; if (found) found.focus(); };

const select = (number, isSelected) => {
  const photo = queue.photos[number];
  if (isSelected) selected.add(photo.sha256); else selected.delete(photo.sha256);
  cards()[number].setAttribute("aria-pressed", String(isSelected));
};
/* Whether the picture of a photo is there to be looked at. */
const hasPicture = ({ sha256 }) => {
  const picture = cards()[queue.photos.findIndex((photo) => photo.sha256 === sha256)]?.querySelector("img");
  return Boolean(picture && picture.complete && picture.naturalWidth > 0);
};
const selectAll = () => queue.photos.forEach((photo, number) => { if (photo.review.kind === null) select(number, true); });
const selectNone = () => { selected.clear(); for (const found of cards()) found.setAttribute("aria-pressed", "false"); };
const selectedPhotos = () => queue.photos.filter(({ sha256 }) => selected.has(sha256));

const columns = () => getComputedStyle(grid).gridTemplateColumns.split(" ").length;
/* Move the focus by an arrow; with Shift all photos on the way are selected. True where the key was one. */
const moveInGrid = async (key, isExtending) => {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[key];
  if (by === undefined) return false;
  const before = queue.at;
  const known = queue.photos.length;
  await goTo(queue.at + by);
  if (queue.photos.length > known) showMany();
  focusCard(queue.at);
  if (isExtending) {
    anchor ??= before;
    const [low, high] = [Math.min(anchor, queue.at), Math.max(anchor, queue.at)];
    for (let number = low; number <= high; number++) select(number, true);
  } else anchor = null;
  return true;
};

grid.addEventListener("click", (event) => {
  const button = event.target.closest(".card");
  if (!button) return;
  const number = Number(button.dataset.number);
  queue.at = number;
  select(number, button.getAttribute("aria-pressed") !== "true");
  button.focus();
});
grid.addEventListener("focusin", (event) => { const button = event.target.closest(".card"); if (button) queue.at = Number(button.dataset.number); });
addEventListener("scroll", async () => {
  if (grid.hidden || queue.isComplete || innerHeight + scrollY < document.documentElement.scrollHeight - 800) return;
  const known = queue.photos.length;
  await loadMore();
  if (queue.photos.length > known) showMany();
});

export { focusCard, hasPicture, moveInGrid, selectAll, selectNone, selectedPhotos, showMany };
