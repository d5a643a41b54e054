"""How near a photo is to anything that was taught: about the cosine of its features to those of the nearest photo.

The nearest photo tells photos of other things from known ones better than the nearest class mean does, because a class
seen from several sides has no photo near its mean (docs/teaching.md has both figures).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.networks.references import References
from models.teaching.photo_set import Rows
from models.teaching.similarity import Features, unit_rows

KNOWN_KEPT = 0.95
# Of the features' directions, so many hold nearly all in which photos differ; and so many photos are enough. Together
# they bound what the references add to a model: 2.8 MB.
MOST_DIMENSIONS = 128
MOST_PHOTOS = 4096


def class_means(features: Features, classes: Rows, count: int) -> Features:
    """float32 [count, features]: the mean of each class's features, of length 1."""
    means = np.zeros((count, features.shape[1]), np.float64)
    np.add.at(means, classes, unit_rows(features))
    return unit_rows(means.astype(np.float32))


def references_of(features: Features, classes: Rows, seed: int) -> References:
    """What photos are compared with: the photos with these features, float32 [n, features], and classes int64 [n];
    where they are too many, as many of each class as there is room for, drawn."""
    unit = unit_rows(features)
    unit = unit[_drawn(classes, seed)]
    # The directions in which the photos are longest, by eigenvectors of their products.
    _, directions = np.linalg.eigh(unit.T.astype(np.float64) @ unit)
    basis = directions[:, ::-1][:, : min(MOST_DIMENSIONS, len(unit))].astype(np.float32)
    return References(np.ascontiguousarray(basis), np.ascontiguousarray((unit @ basis).T))


def familiarity(features: Features, references: References) -> npt.NDArray[np.float32]:
    """float32 [n]: at most 1, the larger the more familiar."""
    return np.asarray((unit_rows(features) @ references.basis @ references.photos).max(axis=1), np.float32)


def least_familiarity(known: npt.NDArray[np.float32], kept: float = KNOWN_KEPT) -> float:
    """The score at or above which `kept` of the known photos are; 0.0 without photos."""
    return float(np.quantile(known, 1 - kept)) if len(known) else 0.0


def _drawn(classes: Rows, seed: int) -> Rows:
    """Rows of at most MOST_PHOTOS photos, in order; of each class equally many, and all where it has fewer."""
    places = np.zeros(len(classes), np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    for label in np.unique(classes):
        rows = shuffled[classes[shuffled] == label]
        places[rows] = np.arange(len(rows))
    return np.sort(np.lexsort((shuffled, places))[:MOST_PHOTOS])
