/* Which reading of the table the page shows, and that a newer run has written the table since. */
const reading = { name: "" };

/* `answer` of the desk: that the table is newer, or that it is not about the table of this page any more. */
const noteTable = (status, { is_outdated: isOutdated, conflicts }) => {
  if (status === 409 && !conflicts) byId("newer").hidden = false;
  else if (isOutdated !== undefined) byId("newer").hidden = !isOutdated;
};
byId("load-newer").addEventListener("click", () => location.reload());

export { noteTable, reading };
