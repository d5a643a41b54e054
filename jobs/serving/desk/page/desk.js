/* The desk: what is shown, what the keys and buttons do. */
import { answerOf } from "/assets/token.js";
import { addLabel, chooseLabel, setLabels } from "./label_choice.js";
import { focusCard, hasPicture, moveInGrid, selectAll, selectNone, selectedPhotos, showMany } from "./many_photos.js";
import { noteTable, reading } from "./newer_table.js";
import { isPictureShown, showOne } from "./one_photo.js";
import { showProgress } from "./progress.js";
import { begin, current, goTo, nextOpen, queue } from "./queue.js";
import { review, told, undo } from "./reviews.js";

const NAME_KEY = "label-serve-reviewer";
const say = (text) => { byId("said").textContent = text; };
let isMany = false;

const draw = () => {
  const isEmpty = queue.photos.length === 0;
  byId("empty").hidden = !isEmpty;
  byId("empty").textContent = byId("state").value === "open" ? "Nothing is left to review here." : "No photo is like that.";
  byId("one").hidden = isEmpty || isMany;
  byId("grid").hidden = isEmpty || !isMany;
  byId("actions").hidden = false;
  for (const id of ["confirm", "change", "unknown", "add", "previous", "next"]) byId(id).disabled = isEmpty;
  if (isEmpty) return;
  if (isMany) showMany(); else showOne();
};

const restart = async () => {
  const choice = { order: byId("order").value, label: byId("label").value, state: byId("state").value };
  history.replaceState(null, "", "?" + new URLSearchParams(choice));
  selectNone();
  try { await begin(choice); } catch (error) { byId("problem").textContent = "The photos could not be listed: " + error.message; return; }
  draw();
};

const toDesk = () => { if (isMany) focusCard(queue.at); else byId("desk").focus(); };

const targets = () => { const chosen = isMany ? selectedPhotos() : []; return chosen.length ? chosen : current() ? [current()] : []; };

const decide = async (kind, label) => {
  const photos = targets();
  const unseen = photos.filter((photo) => !(isMany ? hasPicture(photo) : isPictureShown(photo)));
  if (unseen.length) {
    say(unseen.length === 1 ? "There is no picture of " + unseen[0].name + " to judge by: nothing was saved." : counted(unseen.length) + " of these photos have no picture to judge by: nothing was saved.");
    toDesk();
    return;
  }
  const last = queue.photos.indexOf(photos.at(-1));
  if (!(await review(photos, kind, label))) { draw(); toDesk(); return; }
  const what = photos.length === 1 ? photos[0].name : counted(photos.length) + " photos";
  say(what + ": " + told(photos[0].review));
  selectNone();
  const next = await nextOpen(isMany ? last : queue.at).catch(() => null);
  if (next === null) say(what + ": " + told(photos[0].review) + ". No further photo is left in this order.");
  else await goTo(next);
  draw();
  toDesk();
};

const confirmFirst = () => decide("confirm");
const take = (label) => decide("change", label);
const takeRank = (rank) => {
  const found = current() && current().labels[rank - 1];
  if (found && targets().length === 1) void (rank === 1 ? confirmFirst() : take(found[0]));
};
const choose = async (letters, asNew) => {
  if (!targets().length) return;
  const label = await chooseLabel(letters, asNew);
  if (label === null) { toDesk(); return; }
  addLabel(label);
  await take(label);
};

const undoLast = async () => {
  const undone = await undo();
  if (undone === null) { say("Nothing to undo."); draw(); return; }
  const at = queue.photos.findIndex(({ sha256 }) => sha256 === undone[0]);
  if (at >= 0) await goTo(at);
  else await showAgain(undone[0]);
  draw();
  say("Undone: " + (current() ? current().name : ""));
  toDesk();
};
/* A photo that was reviewed before the page was loaded is not in the list: it comes before the current one. */
const showAgain = async (sha256) => {
  const response = await answerOf("/desk/api/photos/" + sha256);
  if (!response.ok) return;
  queue.photos.splice(queue.at, 0, { ...(await response.json()), rank: current() ? current().rank - 1 : -1 });
  queue.isComplete = queue.isComplete && queue.photos.length > 0;
};

const move = async (by) => { await goTo(queue.at + by).catch(() => {}); draw(); toDesk(); };
const toggleMany = () => {
  isMany = !isMany;
  byId("many").setAttribute("aria-pressed", String(isMany));
  selectNone();
  draw();
  toDesk();
};

const commands = { U: () => void decide("unknown"), N: () => void choose("", true), Z: () => void undoLast(), G: toggleMany, A: () => { if (isMany) selectAll(); } };
document.addEventListener("keydown", async (event) => {
  const { key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
  const isOnButton = target.closest("button, a") && !target.closest(".card");
  if (key === "Enter" && !isOnButton) { event.preventDefault(); void confirmFirst(); }
  else if (commands[key]) { event.preventDefault(); commands[key](); }
  else if (/^[1-9]$/.test(key)) takeRank(Number(key));
  else if (key === "/" || /^\p{Ll}$/u.test(key)) { event.preventDefault(); void choose(key === "/" ? "" : key, false); }
  else if (key === "Escape") selectNone();
  else if (key.startsWith("Arrow")) {
    event.preventDefault();
    if (isMany) await moveInGrid(key, event.shiftKey);
    else if (key === "ArrowLeft" || key === "ArrowRight") await move(key === "ArrowLeft" ? -1 : 1);
  }
});

const buttons = {
  confirm: () => void confirmFirst(), change: () => void choose("", false), unknown: () => void decide("unknown"),
  add: () => void choose("", true), undo: () => void undoLast(), previous: () => void move(-1), next: () => void move(1), many: toggleMany,
};
for (const [id, act] of Object.entries(buttons)) byId(id).addEventListener("click", act);
for (const id of ["order", "label", "state"]) byId(id).addEventListener("change", () => void restart());
byId("choice").addEventListener("submit", (event) => event.preventDefault());
byId("reviewer").addEventListener("change", () => localStorage.setItem(NAME_KEY, byId("reviewer").value.trim()));

const start = async () => {
  const response = await answerOf("/desk/api/start");
  const facts = await response.json();
  if (!response.ok) { byId("problem").textContent = facts.error; return; }
  byId("table").textContent = facts.table;
  document.title = "Review " + facts.table;
  byId("reviewer").value = localStorage.getItem(NAME_KEY) || facts.reviewer;
  setLabels(facts.labels);
  reading.name = facts.reading;
  noteTable(response.status, facts);
  byId("order").querySelector("[value=disagreement]").hidden = !facts.has_older_table;
  byId("label").append(...facts.table_labels.map((label) => { const option = element("option", "", label); option.value = label; return option; }));
  const asked = new URLSearchParams(location.search);
  for (const id of ["order", "label", "state"]) {
    const value = asked.get(id);
    if (value !== null && [...byId(id).options].some((option) => option.value === value)) byId(id).value = value;
  }
  showProgress(facts.progress);
  await restart();
  byId("desk").focus();
};
void start();
