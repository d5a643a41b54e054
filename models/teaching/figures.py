"""How good a taught model is: overall and class by class, from what it answered on photos kept out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.teaching.confidence import calibration_error, interval, softmax
from models.teaching.photo_set import Rows
from models.teaching.similarity import Features

FEW_PHOTOS = 8


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Of one class: photos that taught it, photos that judged it, how many of those are right, how many photos of
    other classes were taken for it, and the interval of its recall at 95%."""

    label: str
    taught: int
    judged: int
    right: int
    wrongly_given: int
    interval: tuple[float, float]

    @property
    def recall(self) -> float | None:
        """The share of the class's photos that got its label; None where no photo judged it."""
        return self.right / self.judged if self.judged else None

    @property
    def precision(self) -> float | None:
        """The share of photos with its label that are of the class; None where no photo got it."""
        given = self.right + self.wrongly_given
        return self.right / given if given else None

    @property
    def has_few(self) -> bool:
        """Whether more photos of the class would certainly help."""
        return self.taught < FEW_PHOTOS


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the whole model on photos kept out; shares are None where none were."""

    judged: int
    top1: float | None
    top3: float | None
    interval: tuple[float, float]
    calibration_error: float | None
    certain_share: float | None
    certain_precision: float | None
    classes: tuple[ClassFigures, ...]
    confusions: tuple[tuple[str, str, int], ...]

    @property
    def worst(self) -> ClassFigures | None:
        """The class with the lowest recall among those with two photos or more; any, where there is no such."""
        judged = [one for one in self.classes if one.judged >= 2] or [one for one in self.classes if one.judged]
        return min(judged, key=lambda one: (one.recall or 0.0, -one.judged), default=None)


def figures(labels: tuple[str, ...], logits: Features, classes: Rows, taught: Rows, min_probability: float) -> Figures:
    """From calibrated logits float32 [n, classes] of the photos kept out, their classes int64 [n], and the classes of
    the photos that `taught` (int64)."""
    count, size = len(classes), len(labels)
    taught_counts = np.bincount(taught, minlength=size)
    best = logits.argmax(axis=1) if count else classes
    matrix = np.zeros((size, size), np.int64)
    np.add.at(matrix, (classes, best), 1)
    by_class = tuple(
        ClassFigures(
            label,
            int(taught_counts[index]),
            int(matrix[index].sum()),
            int(matrix[index, index]),
            int(matrix[:, index].sum() - matrix[index, index]),
            interval(int(matrix[index, index]), int(matrix[index].sum())),
        )
        for index, label in enumerate(labels)
    )
    right = int(np.trace(matrix))
    off = [(labels[i], labels[j], int(matrix[i, j])) for i, j in zip(*np.nonzero(matrix), strict=True) if i != j]
    confusions = tuple(sorted(off, key=lambda one: (-one[2], one)))
    if not count:
        return Figures(0, None, None, (0.0, 1.0), None, None, None, by_class, confusions)
    probabilities = softmax(logits)
    among = np.argsort(-logits, axis=1, kind="stable")[:, :3] == classes[:, None]
    certain = probabilities.max(axis=1) >= min_probability
    return Figures(
        judged=count,
        top1=right / count,
        top3=float(among.any(axis=1).mean()),
        interval=interval(right, count),
        calibration_error=calibration_error(probabilities, classes),
        certain_share=float(certain.mean()),
        certain_precision=float((best == classes)[certain].mean()) if certain.any() else None,
        classes=by_class,
        confusions=confusions,
    )
