/* Photos in, by dropping, pasting, choosing or the camera; a few requests at a time, one photo each. */
import { chosenModel, loadModels } from "./models.js";
import { card, showProblem, showRow } from "./results.js";
import { answerOf } from "./token.js";

const REQUESTS = 6;
const RETRIES = 20;
const drop = byId("drop");
const cards = byId("cards");
const status = byId("status");
const waiting = [];
let running = 0;
let counts = { done: 0, all: 0 };

const add = (files) => {
  const photos = [...files].filter((file) => file.size || file.type || file.name);
  if (!photos.length) return;
  const added = photos.map((file) => ({ file, model: chosenModel(), shown: card(file) }));
  cards.prepend(...added.map(({ shown }) => shown.item));
  waiting.push(...added);
  counts.all += added.length;
  byId("clear").hidden = false;
  say("");
  while (running < REQUESTS && waiting.length) void work();
};

const work = async () => {
  running++;
  while (waiting.length) {
    const { file, model, shown } = waiting.shift();
    const said = await labelled(file, model, shown);
    counts.done++;
    say(file.name + ": " + said);
  }
  running--;
};

const labelled = async (file, model, shown) => {
  for (let attempt = 0; ; attempt++) {
    const body = new FormData();
    /* Before the list of models has come, the server chooses. */
    if (model) body.append("model", model);
    body.append("photo", file, file.name);
    let response;
    try {
      response = await answerOf("/v1/label", { method: "POST", body });
    } catch {
      showProblem(shown, "The server did not answer.", "Is it still running? The photo can be dropped again.");
      return "the server did not answer";
    }
    if (response.ok) return showRow(shown, (await response.json()).rows[0]);
    if (response.status !== 503 || attempt >= RETRIES) {
      const { error } = await response.json().catch(() => ({ error: "status " + response.status }));
      showProblem(shown, "The photo was refused.", error);
      return error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(response.headers.get("retry-after")) || 1)));
  }
};

const say = (news) => {
  const left = counts.all - counts.done;
  const count = left ? counted(left) + " of " + counted(counts.all) + " to go" : counted(counts.all) + (counts.all === 1 ? " photo" : " photos");
  status.textContent = count + (news ? " · " + news : "");
};

for (const [button, input] of [["choose", "files"], ["camera", "camera-file"]]) {
  byId(button).addEventListener("click", () => byId(input).click());
  byId(input).addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
}
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
byId("clear").addEventListener("click", () => {
  cards.replaceChildren();
  waiting.length = 0;
  counts = { done: 0, all: 0 };
  byId("clear").hidden = true;
  status.textContent = "No photo yet.";
  byId("choose").focus();
});
byId("camera").hidden = !matchMedia("(pointer: coarse)").matches;
byId("address").textContent = location.origin + "/";
void loadModels();
