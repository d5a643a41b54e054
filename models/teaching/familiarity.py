"""How near a photo is to anything that was taught: the cosine of its features to the nearest class's mean features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.teaching.photo_set import Rows
from models.teaching.similarity import Features, unit_rows

KNOWN_KEPT = 0.95


def class_means(features: Features, classes: Rows, count: int) -> Features:
    """float32 [count, features]: the mean of each class's features, of length 1."""
    means = np.zeros((count, features.shape[1]), np.float64)
    np.add.at(means, classes, unit_rows(features))
    return unit_rows(means.astype(np.float32))


def familiarity(features: Features, means: Features) -> npt.NDArray[np.float32]:
    """float32 [n]: at most 1, the larger the more familiar."""
    return np.asarray((unit_rows(features) @ means.T).max(axis=1), np.float32)


def least_familiarity(known: npt.NDArray[np.float32], kept: float = KNOWN_KEPT) -> float:
    """The score at or above which `kept` of the known photos are; 0.0 without photos."""
    return float(np.quantile(known, 1 - kept)) if len(known) else 0.0
