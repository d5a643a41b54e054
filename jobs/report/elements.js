/* What the pages share: elements, numbers in words, the theme. */
const byId = (id) => document.getElementById(id);
const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const percent = (permyriad) => (permyriad / 100).toFixed(permyriad < 9950 && permyriad >= 50 ? 0 : 1) + "%";
const counted = (number) => number.toLocaleString("en");

const svgElement = (tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
};
/* A label with its probability, in hundredths of a percent, as a number and as a bar. */
const labelBar = (label, permyriad) => {
  const item = element("li", "bar");
  const drawing = svgElement("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [name, width] of [["track", 100], ["fill", permyriad / 100]]) {
    drawing.append(svgElement("rect", { class: name, width, height: 10 }));
  }
  item.append(element("span", "bar-name", label), element("span", "bar-count", percent(permyriad)), drawing);
  return item;
};

const theme = byId("theme");
const themes = ["auto", "light", "dark"];
theme.addEventListener("click", () => {
  const following = themes[(themes.indexOf(document.documentElement.dataset.theme || "auto") + 1) % themes.length];
  document.documentElement.dataset.theme = following;
  theme.textContent = "Theme: " + following;
});
theme.hidden = false;
