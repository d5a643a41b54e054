/* The photos to review, in the chosen order: fetched in pieces, kept as far as they were seen. */
import { answerOf } from "/assets/token.js";
import { noteTable, reading } from "./newer_table.js";
import { showProgress } from "./progress.js";

const PIECE = 40;
const AHEAD = 12;
const queue = { photos: [], at: 0, left: 0, isComplete: false, choice: {} };
let loading = null;

const fetchPiece = async (after) => {
  const query = new URLSearchParams({ ...queue.choice, after, limit: PIECE, reading: reading.name });
  const response = await answerOf("/desk/api/queue?" + query);
  const answer = await response.json();
  noteTable(response.status, answer);
  if (!response.ok) throw new Error(answer.error);
  return answer;
};

/* Start at the first photo of `choice`: order, label and state. */
const begin = async (choice) => {
  Object.assign(queue, { photos: [], at: 0, left: 0, isComplete: false, choice });
  loading = null;
  await loadMore();
};

const loadMore = () => {
  if (queue.isComplete) return Promise.resolve();
  const { choice } = queue;
  loading ??= (async () => {
    try {
      const last = queue.photos.at(-1);
      const { photos, left, progress } = await fetchPiece(last ? last.rank : -1);
      if (choice !== queue.choice) return;
      queue.photos.push(...photos);
      queue.left = left;
      queue.isComplete = photos.length < PIECE;
      showProgress(progress);
    } finally { if (choice === queue.choice) loading = null; }
  })();
  return loading;
};

const current = () => queue.photos[queue.at];

/* Go to photo number `at`, as far as there are photos; more are fetched before they are needed. */
const goTo = async (at) => {
  while (at >= queue.photos.length && !queue.isComplete) await loadMore();
  queue.at = Math.max(0, Math.min(at, queue.photos.length - 1));
  if (queue.photos.length - queue.at < AHEAD) loadMore().catch(() => {});
};

/* The number of the first photo after `at` of which nothing is said, or the last. */
const nextOpen = async (at) => {
  for (let number = at + 1; ; number++) {
    while (number >= queue.photos.length && !queue.isComplete) await loadMore();
    if (number >= queue.photos.length) return null;
    if (queue.photos[number].review.kind === null) return number;
  }
};

export { begin, current, goTo, loadMore, nextOpen, queue };
