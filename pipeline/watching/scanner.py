"""Lists the inbox in small steps, for every reason there is to list it.

The reasons are the start, the timer, a queue overflow, a new folder and a restarted observer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from pipeline.records import FileRef
from pipeline.sources.walk import WalkCounts, walk
from pipeline.watching.scan_schedule import ScanSchedule
from pipeline.watching.watched_folder import WatchedFolder

STEP_FILES = 256
_LARGEST_FOLDER_REQUESTS = 1000
# A new folder is listed twice: files may arrive after the first listing while the observer has no watch on it yet.
_LISTINGS_OF_FOLDER = 2
_SECOND_LISTING_S = 1.0
_RETRY_S = 5.0


class Scanner:
    """Lists the whole inbox when its `schedule` says so, and single folders on request, step by step.

    `note_hidden` gets the path of each hidden entry that a listing comes across.
    """

    def __init__(
        self,
        inbox: WatchedFolder,
        schedule: ScanSchedule,
        clock: Callable[[], float],
        note_hidden: Callable[[str], object],
    ) -> None:
        self.schedule = schedule
        self._inbox = inbox
        self._clock = clock
        self._note_hidden = note_hidden
        self._walk: Iterator[FileRef] | None = None
        self._is_full_scan = False
        self._busy_s = 0.0
        # For each requested folder, the time of its next listing and how many listings are left.
        self._folders: dict[str, tuple[float, int]] = {}
        self._counts = WalkCounts()

    def request_folder(self, path: str) -> None:
        """List one folder below the inbox now, and again in a second."""
        if len(self._folders) >= _LARGEST_FOLDER_REQUESTS:
            self.schedule.request()
        elif self._inbox.includes_folder(path):
            self._folders[path] = (self._clock(), _LISTINGS_OF_FOLDER)

    def cancel(self) -> None:
        """Drop the listing that is running."""
        self._walk = None

    def next_due_s(self) -> float:
        """Return the time from which `step` has work to do."""
        if self._walk is not None:
            return self._clock()
        return min([self.schedule.due_s, *(at_s for at_s, _ in self._folders.values())])

    @property
    def is_due(self) -> bool:
        """Whether a listing is running or due."""
        return self.next_due_s() <= self._clock()

    def step(self) -> list[FileRef]:
        """Return the next files, at most 256, of the listing that is running or due; none if no listing is due."""
        began_s = self._clock()
        if self._walk is None:
            self._walk = self._next_walk(began_s)
        if self._walk is None:
            return []
        try:
            refs = list(map(self._inbox.without_unstable_inode, islice(self._walk, STEP_FILES)))
            self.schedule.error = None
        except OSError as error:
            self._walk = None
            if self._is_full_scan:
                self.schedule.error = error.strerror or str(error)
                self.schedule.due_s = began_s + _RETRY_S
            return []
        self._busy_s += self._clock() - began_s
        if len(refs) < STEP_FILES:
            self._walk = None
            if self._is_full_scan:
                self.schedule.complete(self._counts.folders, self._busy_s)
        return refs

    def _next_walk(self, now_s: float) -> Iterator[FileRef] | None:
        self._is_full_scan = self.schedule.due_s <= now_s
        if self._is_full_scan:
            self.schedule.start()
            self._folders.clear()
            folder, prefix = str(self._inbox.folder), ""
        else:
            due = next((path for path, (at_s, _) in self._folders.items() if at_s <= now_s), None)
            if due is None:
                return None
            folder, prefix = due, self._inbox.row_name(due) + "/"
            _, listings = self._folders.pop(due)
            if listings > 1:
                self._folders[due] = (now_s + _SECOND_LISTING_S, listings - 1)
        self._busy_s = 0.0
        self._counts = WalkCounts()
        rules, counts = self._inbox.rules, self._counts
        return walk(Path(folder), rules, counts, prefix, is_sorted=False, note_hidden=self._note_hidden)
