"""How often a label is right, estimated from a sample, with the interval that the estimate deserves."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of the normal distribution, for 95%.
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of `sample` photos in random order the label of `right` is right; `low` and `high` bound the share with 95%.

    `unknown` counts photos of the same sample of which nobody can tell the label: they are not in `sample`.
    """

    sample: int
    right: int
    unknown: int
    low: float
    high: float


def accuracy(sample: int, right: int, unknown: int, population: int) -> Accuracy:
    """Return the estimate by Wilson's interval, narrowed where the sample is a large part of the `population`."""
    if not sample:
        return Accuracy(0, 0, unknown, 0.0, 1.0)
    share = right / sample
    # Where all photos are reviewed nothing is left to estimate.
    correction = 0.0 if population <= sample else (population - sample) / (population - 1)
    z_squared = _Z**2 * correction
    middle = (share + z_squared / (2 * sample)) / (1 + z_squared / sample)
    reach = math.sqrt(z_squared * (share * (1 - share) / sample + z_squared / (4 * sample**2))) / (
        1 + z_squared / sample
    )
    return Accuracy(sample, right, unknown, max(0.0, middle - reach), min(1.0, middle + reach))
