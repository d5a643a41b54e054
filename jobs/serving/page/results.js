/* One card for each photo: thumbnail, then labels with bars, "not sure", or what failed in words. */
const words = {
  empty: "The file is empty.",
  truncated: "The file ends before the picture does.",
  not_an_image: "This is no picture.",
  unsupported_format: "A picture of a kind that is not read here.",
  too_large: "The picture is too large.",
  timeout: "The picture took too long.",
  worker_crash: "The picture crashed the program that opens it.",
  decode: "The picture is damaged.",
};

const card = (file) => {
  const item = element("li", "panel result");
  const frame = element("div", "frame");
  const image = element("img");
  image.alt = "";
  const url = URL.createObjectURL(file);
  image.addEventListener("error", () => { image.remove(); URL.revokeObjectURL(url); });
  image.src = url;
  frame.append(image);
  const text = element("div", "text");
  text.append(element("h3", "", file.name), element("p", "quiet", "waiting …"));
  item.append(frame, text);
  return { item, text, name: file.name, forget: () => URL.revokeObjectURL(url) };
};

const show = ({ text, name }, ...shown) => { text.replaceChildren(element("h3", "", name), ...shown); };

const showRow = (shownCard, row) => {
  if (row.status === "error") {
    const [errorClass] = row.error.split(":", 1);
    showProblem(shownCard, words[errorClass] ?? "The photo could not be labelled.", row.error);
    return row.error;
  }
  const bars = element("ol", "bars");
  for (let rank = 1; typeof row["label_" + rank] === "string"; rank++) bars.append(labelBar(row["label_" + rank], row["prob_" + rank] * 10000));
  const model = element("p", "quiet reason", row.model);
  show(shownCard, ...(row.status === "unsure" ? [element("p", "unsure", "not sure")] : []), bars, model);
  return (row.status === "unsure" ? "not sure, perhaps " : "") + row.label_1 + ", " + percent(row.prob_1 * 10000);
};

const showProblem = (shownCard, sentence, detail) => {
  show(shownCard, element("p", "problem", sentence), element("p", "quiet reason", detail ?? ""));
};

export { card, showProblem, showRow };
