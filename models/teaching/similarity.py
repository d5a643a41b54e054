"""Which photos belong together: bursts of one camera, copies and near-duplicates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from models.teaching.photo_set import Moment, Rows

BURST_S = 10.0
# Cosine of two photos' features, each less the mean of all photos, from which on they show the same thing the same way.
NEAR_DUPLICATE = 0.93
ROWS_PER_PRODUCT = 1024

Features = npt.NDArray[np.float32]
Pair = tuple[int, int]


def near_duplicates(features: Features, least: float = NEAR_DUPLICATE) -> list[tuple[int, int, float]]:
    """Pairs of rows (first below second) of float32 [n, features] that look alike, with their cosine, best first."""
    unit = unit_rows(features - features.mean(axis=0))
    found = []
    for start in range(0, len(unit), ROWS_PER_PRODUCT):
        cosines = unit[start : start + ROWS_PER_PRODUCT] @ unit.T
        rows, columns = np.nonzero(cosines >= least)
        for row, column in zip((rows + start).tolist(), columns.tolist(), strict=True):
            if row < column:
                found.append((row, column, float(cosines[row - start, column])))
    return sorted(found, key=lambda pair: -pair[2])


def unit_rows(features: Features) -> Features:
    """Each row divided by its length."""
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12), np.float32)


def same_bytes(digests: Sequence[str]) -> Iterator[Pair]:
    """Pairs of rows with the same digest, each row with the one before."""
    last: dict[str, int] = {}
    for row, digest in enumerate(digests):
        if digest in last:
            yield last[digest], row
        last[digest] = row


def bursts(moments: Sequence[Moment | None]) -> Iterator[Pair]:
    """Pairs of rows that one camera took within seconds of one another."""
    timed = sorted((moment.camera, moment.time_s, row) for row, moment in enumerate(moments) if moment is not None)
    for before, after in itertools.pairwise(timed):
        if before[0] == after[0] and after[1] - before[1] <= BURST_S:
            yield before[2], after[2]


def groups(count: int, pairs: Iterable[Pair]) -> Rows:
    """The group of each of `count` rows, int64 [count]: rows joined by pairs, over any number of steps, share one.

    Groups are numbered by their first rows.
    """
    parents = list(range(count))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parents[high] = low
    return np.array([root(row) for row in range(count)], np.int64)
