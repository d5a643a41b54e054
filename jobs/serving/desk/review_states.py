"""The state of each photo of the desk, in arrays beside the photos, kept up to date with the reviews file."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.serving.desk.accuracy import Accuracy, accuracy
from jobs.serving.desk.desk_photos import DeskPhotos, Order, Positions
from pipeline.reviews.decisions import Decision, PhotoReview, Recorded, ReviewKind
from pipeline.reviews.review_store import ReviewStore
from pipeline.tables.arrow import pa, pc

_OPEN, _RIGHT, _WRONG, _UNKNOWN = range(4)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many photos there are, how many are reviewed, and how often the table's label is right."""

    photos: int
    reviewed: int
    accuracy: Accuracy


class ReviewStates:
    """What was said of each photo; other processes may add reviews to the same `store` at any moment.

    Raises:
        what `ReviewStore` raises.
    """

    def __init__(self, photos: DeskPhotos, store: ReviewStore) -> None:
        self._photos = photos
        self._store = store
        self._lock = threading.Lock()
        self._verdicts: NDArray[np.int8] = np.zeros(photos.count, np.int8)
        self._said: dict[str, PhotoReview] = {}
        self._last_id = store.last_id()
        self._take(store.all_states())

    def record(self, request_id: str, reviewer: str, decisions: Sequence[Decision]) -> Recorded:
        """Record the decisions, as `ReviewStore.record` does."""
        recorded = self._store.record(request_id, reviewer, decisions)
        self.refresh()
        return recorded

    def refresh(self) -> None:
        """Take over what was said since the last call, by whichever process."""
        with self._lock:
            last_id = self._store.last_id()
            if last_id != self._last_id:
                self._take(self._store.states(self._store.reviewed_after(self._last_id)))
                self._last_id = last_id

    def of(self, sha256: str) -> PhotoReview:
        """Return the state of a photo."""
        return self._said.get(sha256) or PhotoReview(sha256)

    def is_open(self, positions: Positions) -> NDArray[np.bool_]:
        """Tell of each of the photos whether nothing was said of it."""
        is_open: NDArray[np.bool_] = self._verdicts[positions] == _OPEN
        return is_open

    def labels_said(self) -> set[str]:
        """Return all labels that persons gave to photos."""
        return {review.label for review in self._said.values() if review.label is not None}

    def progress(self) -> Progress:
        """Return the counts, and the estimate from the photos that come first in random order.

        The sample ends at the first photo of that order that is not reviewed: which photos are in it then does not
        depend on what anybody chose to review.
        """
        in_order = self._verdicts[self._photos.ordered(Order.RANDOM)]
        is_open = in_order == _OPEN
        sample = in_order[: int(is_open.argmax()) if is_open.any() else len(in_order)]
        right, wrong, unknown = (int((sample == verdict).sum()) for verdict in (_RIGHT, _WRONG, _UNKNOWN))
        count = self._photos.count
        reviewed = int((self._verdicts != _OPEN).sum())
        return Progress(count, reviewed, accuracy(right + wrong, right, unknown, count - unknown))

    def _take(self, states: Iterable[PhotoReview]) -> None:
        """Note the states of photos; those of photos of other tables are kept, and count nowhere."""
        by_name = {state.sha256: state for state in states}
        if not by_name:
            return
        self._said |= by_name
        sha256s = pa.array(list(by_name), pa.string())
        positions = pc.index_in(sha256s, value_set=self._photos.rows.column("sha256"))
        labels = self._photos.rows.column("label_1").take(positions).to_pylist()
        for state, position, label in zip(by_name.values(), positions.to_pylist(), labels, strict=True):
            if position is not None:
                self._verdicts[position] = _verdict(state, label)


def _verdict(state: PhotoReview, label: str | None) -> int:
    if state.kind is None:
        return _OPEN
    if state.kind is ReviewKind.UNKNOWN:
        return _UNKNOWN
    return _RIGHT if state.label == label else _WRONG
