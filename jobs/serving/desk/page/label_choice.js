/* The choice of a label by a few of its letters, or a new label; the pattern of a combobox with a list. */
const MOST_SHOWN = 8;
const dialog = byId("chooser");
const input = byId("wanted");
const list = byId("matches");
let labels = [];
let active = 0;
let isNew = false;
let done = null;

const setLabels = (known) => { labels = known; };
const addLabel = (label) => { if (!labels.includes(label)) labels.push(label); };

/* Labels that begin with the letters, then those with a word that does, then those that have them anywhere; all. */
const matching = (text) => {
  const wanted = text.trim().toLowerCase();
  const ranked = [[], [], []];
  for (const label of labels) {
    const lower = label.toLowerCase();
    const at = lower.indexOf(wanted);
    if (at === 0) ranked[0].push(label);
    else if (lower.includes(" " + wanted)) ranked[1].push(label);
    else if (at > 0) ranked[2].push(label);
  }
  const exact = ranked[0].filter((label) => label.toLowerCase() === wanted);
  return [...exact, ...ranked[0].filter((label) => !exact.includes(label)), ...ranked[1], ...ranked[2]];
};

const shown = () => [...list.children].map((item) => item.textContent);
const draw = () => {
  const found = matching(input.value);
  list.replaceChildren(...found.slice(0, MOST_SHOWN).map((label, number) => {
    const item = element("li", "", label);
    item.id = "match-" + number;
    item.setAttribute("role", "option");
    return item;
  }));
  mark(0);
  const count = list.children.length;
  const typed = input.value.trim();
  byId("chooser-add").hidden = !typed || labels.includes(typed);
  byId("chooser-hint").textContent = isNew
    ? labels.includes(typed) ? "This label is known already." : typed ? "Enter adds this label." : "Type the new label."
    : count ? counted(found.length) + (found.length === 1 ? " label" : " labels") + (found.length > count ? ", of which " + count + " are shown" : "") + "; arrows choose" : "No label has these letters; it can be added as a new one.";
};
const mark = (number) => {
  const count = list.children.length;
  active = count ? (number + count) % count : 0;
  [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === active && !isNew)));
  if (count && !isNew) {
    input.setAttribute("aria-activedescendant", "match-" + active);
    list.children[active].scrollIntoView({ block: "nearest" });
  } else input.removeAttribute("aria-activedescendant");
};
const close = (label) => {
  const finish = done;
  done = null;
  dialog.close();
  if (finish) finish(label);
};

/* The label that the person takes, null for none; `letters` are typed already, and with `asNew` a label may be new. */
const chooseLabel = (letters, asNew) => new Promise((resolve) => {
  done = resolve;
  isNew = asNew;
  byId("chooser-title").textContent = asNew ? "New label" : "Another label";
  input.value = letters;
  draw();
  dialog.showModal();
  input.focus();
  input.setSelectionRange(letters.length, letters.length);
});

input.addEventListener("input", draw);
input.addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by === undefined) return;
  event.preventDefault();
  mark(active + by);
});
list.addEventListener("click", (event) => { const item = event.target.closest("li"); if (item) close(item.textContent); });
byId("chooser-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = input.value.trim();
  if (isNew) { if (typed) close(typed); return; }
  const found = shown()[active];
  if (found !== undefined) close(found);
});
byId("chooser-add").addEventListener("click", () => { const typed = input.value.trim(); if (typed) close(typed); });
byId("chooser-cancel").addEventListener("click", () => close(null));
dialog.addEventListener("cancel", () => close(null));

export { addLabel, chooseLabel, setLabels };
