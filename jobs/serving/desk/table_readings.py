"""The table as the desk has read it, and whether a newer run has written it since; read anew when a page is loaded.

A person answers for what their page shows: the label of one reading of the table. So each answer names its reading, and
one about an earlier reading is refused, since the same photo may have another label by now.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.serving.desk.desk_photos import DeskPhotos, Order, read_desk_photos
from jobs.serving.desk.review_states import ReviewStates
from pipeline.errors import LabelDirError
from pipeline.reviews.review_store import ReviewStore
from pipeline.tables.reader import table_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """The photos of one state of the table and what was said of them; the same state has the same `name`."""

    name: str
    photos: DeskPhotos
    states: ReviewStates
    labels: Sequence[str]


class TableReadings:
    """Readings of `table`, compared with the older table `since`; `open_store` gives the one store of the reviews.

    Raises:
        InputMissingError: there is no such table.
        UsageError: a file is no table of label-dir.
        OutputError: a file is damaged.
    """

    def __init__(self, table: Path, since: Path | None, open_store: Callable[[], ReviewStore]) -> None:
        self._table = table
        self._since = since
        self._open_store = open_store
        self._lock = threading.Lock()
        self.current = self._read()

    def is_outdated(self) -> bool:
        """Tell whether the table was written since it was read."""
        return self._state_name() != self.current.name

    def read_again(self) -> None:
        """Read the table if it was written since; where it cannot be read, the reading of before stays."""
        with self._lock:
            if self.is_outdated():
                try:
                    self.current = self._read()
                except LabelDirError as error:
                    logger.warning("the desk shows the table as it was before: %s", error)

    def _read(self) -> Reading:
        # Named before it is read: what is written meanwhile makes this reading outdated, and never passes for it.
        name = self._state_name()
        photos = read_desk_photos(self._table, self._since)
        # The first request need not wait for the orders.
        photos.ordered(Order.UNCERTAIN)
        # Opened now: beside a table that is refused, no reviews file is made.
        return Reading(name, photos, ReviewStates(photos, self._open_store()), photos.labels())

    def _state_name(self) -> str:
        """Return a name for what lies at the table's place: which files, of which size and time."""
        digest = hashlib.sha256()
        for table in (self._table, self._since):
            for path in [] if table is None else table_files(table):
                try:
                    facts = os.stat(path)
                except OSError:
                    continue
                digest.update(
                    f"{path}\0{facts.st_ino} {facts.st_size} {facts.st_mtime_ns}\0".encode("utf-8", "replace")
                )
        return digest.hexdigest()[:16]
