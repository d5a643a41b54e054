"""Probabilities that mean what they say: a temperature, the error that is left, and the threshold of "unsure"."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.teaching.photo_set import Rows

Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

TEMPERATURES = np.exp(np.linspace(np.log(0.2), np.log(5.0), 161))
BINS = 15
FEWEST_FOR_TEMPERATURE = 20
# A threshold that refuses everything helps nobody: this share of photos stays labelled whatever precision is wanted.
HIGHEST_THRESHOLD = 0.999


def softmax(logits: Logits, temperature: float = 1.0) -> Floats:
    """float32 [n, classes] -> float64 [n, classes]."""
    scaled = logits.astype(np.float64) / temperature
    shifted = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def best_temperature(logits: Logits, classes: Rows) -> float:
    """What the logits are divided by so that their probabilities fit the true classes best (Guo et al., "On
    Calibration of Modern Neural Networks", 2017); 1.0 where there are too few photos to tell."""
    if len(logits) < FEWEST_FOR_TEMPERATURE:
        return 1.0
    losses = [_loss(logits, classes, float(temperature)) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def calibration_error(probabilities: Floats, classes: Rows) -> float:
    """The expected calibration error in bins of equal width: |share right - mean probability|, weighted by photos."""
    best, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    bins = np.minimum((best * BINS).astype(np.int64), BINS - 1)
    gaps = [abs(float(right[bins == bin_].sum()) - float(best[bins == bin_].sum())) for bin_ in range(BINS)]
    return sum(gaps) / max(1, len(best))


def least_probability(probabilities: Floats, classes: Rows, precision: float) -> float:
    """The lowest threshold from which on the share of right labels among the photos at or above it is `precision`.

    HIGHEST_THRESHOLD where no threshold reaches it, 0.0 where all photos do, or where there are none to tell.
    """
    if not len(classes):
        return 0.0
    best = probabilities.max(axis=1)
    order = np.argsort(-best, kind="stable")
    right = (probabilities.argmax(axis=1) == classes)[order]
    shares = np.cumsum(right) / np.arange(1, len(right) + 1)
    enough = np.flatnonzero(shares >= precision)
    if not len(enough):
        return HIGHEST_THRESHOLD
    last = int(enough[-1])
    return 0.0 if last == len(order) - 1 else round(float(best[order[last]]), 6)


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's interval of a share, at 95%; (0, 1) of no photos."""
    if count == 0:
        return 0.0, 1.0
    z = 1.96
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * float(np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _loss(logits: Logits, classes: Rows, temperature: float) -> float:
    probabilities = softmax(logits, temperature)[np.arange(len(classes)), classes]
    return float(-np.log(np.maximum(probabilities, 1e-12)).mean())
