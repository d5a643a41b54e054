/* How many photos are reviewed, and how often the table is right, as far as a fair sample tells. */
const share = (value) => (100 * value).toFixed(value > 0.995 && value < 1 ? 1 : 0);

const showProgress = ({ photos, reviewed, sample, right, unknown, low, high }) => {
  byId("counter").textContent = counted(reviewed) + " of " + counted(photos) + (photos === 1 ? " photo" : " photos") + " reviewed";
  const aside = unknown ? " (" + counted(unknown) + " unknown are left out)" : "";
  byId("estimate").textContent = sample
    ? "Of " + counted(sample) + " photos taken at random " + counted(right) + " labels are right" + aside + ": accuracy "
      + share(right / sample) + "%, with 95% between " + share(low) + "% and " + share(high) + "%"
    : "No estimate of the accuracy yet: it needs photos reviewed in random order";
};

export { showProgress };
