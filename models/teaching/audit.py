"""Photos whose label is probably wrong: a classifier that did not see a photo's label doubts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from models.teaching.linear_classifier import inputs_of, linear_head
from models.teaching.photo_set import Rows
from models.teaching.similarity import Features

FOLDS = 5


def out_of_fold_logits(features: Features, classes: Rows, groups: Rows, count: int, seed: int) -> Features:
    """float32 [n, count]: of each photo, by a linear classifier taught on the folds that the photo is not in.

    Photos of one group share a fold, so that a copy with the same wrong label does not vouch for its twin.
    """
    logits = np.zeros((len(classes), count), np.float32)
    unit = inputs_of(features)
    targets = torch.from_numpy(classes)
    folds = _folds(classes, groups, seed)
    for fold in range(FOLDS):
        inside = torch.from_numpy(folds != fold)
        if inside.all() or not inside.any():
            continue
        head = linear_head(unit[inside], targets[inside], count, seed)
        with torch.no_grad():
            logits[folds == fold] = head(unit[~inside]).numpy()
    return logits


def doubts(logits: Sequence[npt.NDArray[np.float32]], classes: Rows) -> npt.NDArray[np.float64]:
    """float64 [n], the larger the more doubtful: by how much the best other class beats the photo's own, in logits of
    each kind put on one scale."""
    total = np.zeros(len(classes))
    for kind in logits:
        own = kind[np.arange(len(classes)), classes]
        others = kind.copy()
        others[np.arange(len(classes)), classes] = -np.inf
        gap = others.max(axis=1) - own
        total += np.argsort(np.argsort(gap)) / max(1, len(gap))
    return total / max(1, len(logits))


def _folds(classes: Rows, groups: Rows, seed: int) -> Rows:
    """The fold of each photo, int64 [n]; each class's groups go round the folds."""
    random = np.random.default_rng(seed)
    folds = np.zeros(len(classes), np.int64)
    next_fold: dict[int, int] = {}
    fold_of_group: dict[int, int] = {}
    for row in random.permutation(len(classes)).tolist():
        group = int(groups[row])
        if group not in fold_of_group:
            label = int(classes[row])
            fold_of_group[group] = next_fold.get(label, label) % FOLDS
            next_fold[label] = fold_of_group[group] + 1
        folds[row] = fold_of_group[group]
    return folds
