/* One photo, large, with its labels and what was said of it. */
import { current, queue } from "./queue.js";
import { saidBy } from "./reviews.js";

const AHEAD = 4;
const image = byId("picture");
const missing = byId("no-picture");
const ahead = new Map();
const pictureUrl = (photo, kind) => "/desk/api/pictures/" + photo.sha256 + "/" + kind;

const showReason = async (photo) => {
  let reason = "The server does not answer.";
  try { reason = (await (await fetch(pictureUrl(photo, "whole"))).json()).error; } catch { /* no answer, or a picture by now */ }
  if (current() !== photo) return;
  image.hidden = true;
  missing.hidden = false;
  missing.textContent = reason;
};

const showOne = () => {
  const photo = current();
  if (image.dataset.sha256 !== photo.sha256) {
    image.dataset.sha256 = photo.sha256;
    image.hidden = false;
    missing.hidden = true;
    image.alt = "The photo " + photo.name;
    image.onload = () => image.classList.remove("waiting");
    image.onerror = () => void showReason(photo);
    image.src = pictureUrl(photo, "whole");
    /* A browser goes on showing the picture of the photo before, beside the name and labels of this one. */
    image.classList.toggle("waiting", !image.complete);
  }
  byId("name").textContent = photo.name;
  byId("review").textContent = photo.review.kind === null ? "" : "✓ " + saidBy(photo.review);
  byId("old-label").textContent = photo.old_label === null || photo.old_label === photo.labels[0][0] ? "" : "The older table says “" + photo.old_label + "”";
  byId("labels").replaceChildren(...photo.labels.map(([label, probability]) => labelBar(label, probability * 10000)));
  fetchAhead();
};

/* Whether the picture of `photo` is there to be looked at. */
const isPictureShown = ({ sha256 }) =>
  image.dataset.sha256 === sha256 && !image.hidden && !image.classList.contains("waiting") && image.naturalWidth > 0;

/* The next pictures are made and fetched while the person looks at this one. */
const fetchAhead = () => {
  const next = queue.photos.slice(queue.at + 1, queue.at + 1 + AHEAD);
  const wanted = new Set(next.map(({ sha256 }) => sha256));
  for (const sha256 of ahead.keys()) if (!wanted.has(sha256)) ahead.delete(sha256);
  for (const photo of next) {
    if (ahead.has(photo.sha256)) continue;
    const picture = new Image();
    picture.src = pictureUrl(photo, "whole");
    ahead.set(photo.sha256, picture);
  }
};

export { isPictureShown, pictureUrl, showOne };
