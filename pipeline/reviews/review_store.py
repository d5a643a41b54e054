"""The history of reviews: what a person said of a photo, known by its sha256; rows are only ever added.

The state of a photo follows from its rows: the newest review that is not undone. A person decides on the state that the
person saw, and names it by the photo's last row; where the photo has a newer row by then, nothing is recorded and the
newer state is returned, so that no review replaces another one that its author never saw.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import OutputError, UsageError
from pipeline.reviews.decisions import Decision, PhotoReview, Recorded, ReviewKind, refuse_impossible
from pipeline.reviews.review_file import open_reviews, reviews_errors, told

# A review that no row undoes; undoing takes the newest such review, so the newest one left is the photo's state.
STANDING = "kind <> 'undo' AND NOT EXISTS (SELECT 1 FROM review AS later WHERE later.undoes = review.id)"


class ReviewStore:
    """The reviews file at `path`, made if it is missing; several threads and processes may use it at once.

    Raises:
        UsageError: the file is of another program, of a newer version, or a link.
        InputMissingError: the file is damaged or cannot be read.
        OutputError: the file cannot be made or written.
    """

    def __init__(self, path: Path, clock_us: Callable[[], int]) -> None:
        self._path = path
        self._clock_us = clock_us
        self._lock = threading.Lock()
        self._database = open_reviews(path)
        self._identity = self._found_identity()

    def close(self) -> None:
        """Close the file; the last process to do so leaves one file and no log beside it."""
        with self._lock:
            self._database.close()

    def record(self, request_id: str, reviewer: str, decisions: Sequence[Decision]) -> Recorded:
        """Add one row for each of `decisions` or, where one of the photos has a newer review, none; durable on return.

        A request that is recorded already, by its id, is not recorded again, and gets the states of now.

        Raises:
            UsageError: a decision is impossible, or `request_id` is that of another request.
            OutputError: the file cannot be written, or was moved away.
            InputMissingError: the file is damaged.
        """
        refuse_impossible(request_id, reviewer, decisions)
        with self._lock, self._writing() as database:
            names = [decision.sha256 for decision in decisions]
            if known := _recorded(database, request_id):
                if known != [(one.sha256, str(one.kind), _label_of(one)) for one in decisions]:
                    raise UsageError(f"the request {request_id} was another one")
                return Recorded(_states(database, names))
            states = _states(database, names)
            conflicts = tuple(
                state for state, decision in zip(states, decisions, strict=True) if not _is_possible(state, decision)
            )
            if conflicts:
                return Recorded(states, conflicts)
            now_us = self._clock_us()
            for decision in decisions:
                _add(database, request_id, reviewer, now_us, decision)
            return Recorded(_states(database, names))

    def states(self, sha256s: Sequence[str]) -> tuple[PhotoReview, ...]:
        """Return the state of each photo.

        Raises:
            InputMissingError: the file is damaged or cannot be read.
        """
        with self._lock, reviews_errors(self._path):
            return _states(self._database, sha256s)

    def all_states(self) -> list[PhotoReview]:
        """Return the state of each photo that was ever reviewed.

        Raises:
            InputMissingError: the file is damaged or cannot be read.
        """
        with self._lock, reviews_errors(self._path):
            last_ids = dict(self._database.execute("SELECT sha256, max(id) FROM review GROUP BY sha256"))
            standing = self._database.execute(
                "SELECT sha256, kind, old_label, new_label, reviewer, reviewed_at_us, max(id) FROM review"
                f" WHERE {STANDING} GROUP BY sha256"
            )
            known = {row[0]: PhotoReview(row[0], last_ids[row[0]], ReviewKind(row[1]), *row[2:6]) for row in standing}
        return [known.get(sha256) or PhotoReview(sha256, last_id) for sha256, last_id in last_ids.items()]

    def reviewed_after(self, last_id: int) -> list[str]:
        """Return the sha256 of each photo that has a row with a higher number than `last_id`.

        Raises:
            InputMissingError: the file is damaged or cannot be read.
        """
        with self._lock, reviews_errors(self._path):
            found = self._database.execute("SELECT DISTINCT sha256 FROM review WHERE id > ?", (last_id,))
            return [sha256 for (sha256,) in found]

    def last_id(self) -> int:
        """Return the number of the newest row of all photos, 0 where there is none."""
        with self._lock, reviews_errors(self._path):
            return int(self._database.execute("SELECT coalesce(max(id), 0) FROM review").fetchone()[0])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run a block as one transaction, which is on the disk when the block has ended."""
        with reviews_errors(self._path, is_writing=True):
            self._refuse_another_file()
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _refuse_another_file(self) -> None:
        """Without this, reviews would go to a file that was removed or replaced, and be gone with this process."""
        if self._found_identity() != self._identity:
            raise OutputError(
                f"{told(self._path)} was moved or replaced while it was in use; put it back, or start again"
            )

    def _found_identity(self) -> tuple[int, int] | None:
        try:
            facts = os.lstat(self._path)
        except OSError:
            return None
        return facts.st_dev, facts.st_ino


def _is_possible(state: PhotoReview, decision: Decision) -> bool:
    is_seen = state.last_id == decision.last_id
    return is_seen and (decision.kind is not ReviewKind.UNDO or state.kind is not None)


def _label_of(decision: Decision) -> str | None:
    return decision.old_label if decision.kind is ReviewKind.CONFIRM else decision.new_label


def _recorded(database: sqlite3.Connection, request_id: str) -> list[tuple[str, str, str | None]]:
    query = "SELECT sha256, kind, new_label FROM review WHERE request_id = ? ORDER BY id"
    return database.execute(query, (request_id,)).fetchall()


def _add(database: sqlite3.Connection, request_id: str, reviewer: str, now_us: int, decision: Decision) -> None:
    undone = None
    if decision.kind is ReviewKind.UNDO:
        query = f"SELECT max(id) FROM review WHERE sha256 = ? AND {STANDING}"
        (undone,) = database.execute(query, (decision.sha256,)).fetchone()
    database.execute(
        "INSERT INTO review (request_id, kind, sha256, old_label, new_label, undoes, reviewer, reviewed_at_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request_id,
            str(decision.kind),
            decision.sha256,
            decision.old_label,
            _label_of(decision),
            undone,
            reviewer,
            now_us,
        ),
    )


def _states(database: sqlite3.Connection, sha256s: Iterable[str]) -> tuple[PhotoReview, ...]:
    return tuple(_state(database, sha256) for sha256 in sha256s)


def _state(database: sqlite3.Connection, sha256: str) -> PhotoReview:
    query = "SELECT coalesce(max(id), 0) FROM review WHERE sha256 = ?"
    (last_id,) = database.execute(query, (sha256,)).fetchone()
    standing = database.execute(
        f"SELECT kind, old_label, new_label, reviewer, reviewed_at_us FROM review WHERE sha256 = ? AND {STANDING}"
        " ORDER BY id DESC LIMIT 1",
        (sha256,),
    ).fetchone()
    if standing is None:
        return PhotoReview(sha256, last_id)
    return PhotoReview(sha256, last_id, ReviewKind(standing[0]), *standing[1:])
