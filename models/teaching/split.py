"""Which photos are kept out of training, to judge and certify the model by."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from models.teaching.photo_set import UNKNOWN, Flags, Rows

HELD_OUT_SHARE = 0.15
# With fewer groups of photos than this, a class needs all of them to learn from.
FEWEST_GROUPS = 4
MOST_HELD_OUT = 2000


def kept_out(classes: Rows, groups: Rows, digests: Sequence[str], before: Collection[str] = ()) -> Flags:
    """bool [n]: about HELD_OUT_SHARE of each class's photos, by whole groups, none of a class with few groups.

    The choice depends on the photos' bytes alone, so it is the same whatever other photos there are. Photos that were
    kept out `before`, by digest, stay so, and their groups with them.
    """
    share = min(HELD_OUT_SHARE, MOST_HELD_OUT / max(1, len(classes)))
    old = set(before)
    held = np.zeros(len(classes), bool)
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    by_class: dict[int, list[list[int]]] = {}
    for rows in members.values():
        if any(digests[row] in old for row in rows):
            held[rows] = True
        elif len({int(classes[row]) for row in rows}) == 1:
            # A group of several classes would take more from one class than its share: it trains.
            by_class.setdefault(int(classes[rows[0]]), []).append(rows)
    for label, found in by_class.items():
        counted = int((held & (classes == label)).sum())
        if label != UNKNOWN and len(found) < FEWEST_GROUPS and counted == 0:
            continue
        wanted = max(1, round(share * int((classes == label).sum())))
        for rows in sorted(found, key=lambda rows: _draw(digests[rows[0]])):
            if counted >= wanted:
                break
            if counted + len(rows) <= max(wanted, 2 * wanted - 1) or (counted == 0 and len(rows) * 2 <= _size(found)):
                held[rows] = True
                counted += len(rows)
    return held


def _size(groups: list[list[int]]) -> int:
    return sum(map(len, groups))


def _draw(digest: str) -> bytes:
    """A number drawn for a photo, always the same one."""
    return hashlib.sha256(f"kept out {digest}".encode()).digest()
