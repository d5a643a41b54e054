/* What a person says, sent until it is on the disk; an answer of somebody else in between is shown, never replaced. */
import { answerOf } from "/assets/token.js";
import { noteTable, reading } from "./newer_table.js";
import { showProgress } from "./progress.js";
import { queue } from "./queue.js";

const RETRY_MS = 1000;
const UNDO_KEY = "label-serve-undo";
const MOST_UNDO = 500;
const conflictDialog = byId("conflict");
let isBusy = false;

/* Browsers offer randomUUID on secure origins only, and a desk may be on a plain address of a shop's network. */
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const undoSteps = () => JSON.parse(sessionStorage.getItem(UNDO_KEY) ?? "[]");
const keepUndo = (steps) => {
  sessionStorage.setItem(UNDO_KEY, JSON.stringify(steps.slice(-MOST_UNDO)));
  byId("undo").disabled = steps.length === 0;
};

const told = ({ kind, label }) => (kind === "unknown" ? "unknown" : kind === null ? "nothing any more" : "“" + label + "”");
const saidBy = (review) => (review.kind === null ? "" : told(review) + " by " + review.reviewer);

const post = async (decisions) => {
  const body = JSON.stringify({ request_id: newId(), reviewer: byId("reviewer").value.trim(), reading: reading.name, decisions });
  for (;;) {
    try {
      const response = await answerOf("/desk/api/reviews", { method: "POST", body, headers: { "Content-Type": "application/json" } });
      const answer = await response.json();
      byId("problem").textContent = response.ok || answer.conflicts ? "" : "Not saved: " + answer.error;
      noteTable(response.status, answer);
      if (response.status !== 503) return { status: response.status, ...answer };
    } catch {
      byId("problem").textContent = "Not saved yet: the server does not answer. Trying again …";
    }
    /* The same id: a request that was recorded, but whose answer was lost, is recorded once. */
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
};

const takeStates = (states) => {
  const byHash = new Map(states.map((state) => [state.sha256, state]));
  for (const photo of queue.photos) if (byHash.has(photo.sha256)) photo.review = byHash.get(photo.sha256);
};

const isSame = (decision, state, photo) =>
  state.kind !== null && decision.kind !== "undo" && (decision.kind === "unknown" ? state.kind === "unknown"
    : state.label === (decision.kind === "confirm" ? photo.labels[0][0] : decision.label));

const askAboutConflict = (conflicts) => new Promise((resolve) => {
  const lines = conflicts.slice(0, 20).map((state) => {
    const photo = queue.photos.find(({ sha256 }) => sha256 === state.sha256);
    return element("li", "name", (photo ? photo.name : state.sha256.slice(0, 12)) + ": " + (saidBy(state) || "what was said is undone"));
  });
  byId("conflict-text").textContent = "Nothing of yours was saved. Meanwhile this was said:";
  byId("conflict-list").replaceChildren(...lines);
  const close = (isMine) => { byId("keep-theirs").onclick = byId("save-mine").onclick = conflictDialog.oncancel = null; conflictDialog.close(); resolve(isMine); };
  byId("keep-theirs").onclick = () => close(false);
  byId("save-mine").onclick = () => close(true);
  conflictDialog.oncancel = () => close(false);
  conflictDialog.showModal();
  byId("keep-theirs").focus();
});

/* Say `kind` (and `label`) of `photos`; true when that, or the same by somebody else, is on the disk. */
const review = async (photos, kind, label) => {
  if (isBusy || !photos.length) return false;
  isBusy = true;
  try {
    for (;;) {
      const decisions = photos.map(({ sha256, review: { last_id } }) => ({ sha256, kind, label, last_id }));
      const { status, states, conflicts, progress } = await post(decisions);
      if (status === 200) {
        takeStates(states);
        showProgress(progress);
        if (kind !== "undo") keepUndo([...undoSteps(), states.map(({ sha256, last_id }) => ({ sha256, last_id }))]);
        return true;
      }
      if (!conflicts) return false;
      takeStates(conflicts);
      const byHash = new Map(conflicts.map((state) => [state.sha256, state]));
      const rest = photos.filter((photo) => !byHash.has(photo.sha256) || !isSame({ kind, label }, byHash.get(photo.sha256), photo));
      if (!rest.length) return true;
      const hasAnother = rest.some(({ sha256 }) => byHash.has(sha256));
      if (hasAnother && !(await askAboutConflict(conflicts))) return false;
      for (const photo of rest) if (byHash.has(photo.sha256)) photo.review = byHash.get(photo.sha256);
      photos = rest;
    }
  } finally { isBusy = false; }
};

/* Take the last step of this tab back; the photos of that step, or null where there is none or it cannot be undone. */
const undo = async () => {
  const steps = undoSteps();
  const step = steps.pop();
  if (!step || isBusy) return null;
  const photos = step.map(({ sha256, last_id }) => ({ sha256, review: { last_id } }));
  const isDone = await review(photos, "undo");
  keepUndo(steps);
  return isDone ? step.map(({ sha256 }) => sha256) : null;
};

keepUndo(undoSteps());

export { review, saidBy, told, undo };
