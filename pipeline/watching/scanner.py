"""One way to list the inbox, for the start, the timer, an overflow, a new folder and a restarted observer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from pipeline.records import FileRef
from pipeline.sources.walk import WalkCounts, walk
from pipeline.watching.watched_folder import WatchedFolder

STEP_FILES = 256
_FOLDERS = 1000
# A folder is listed at once and again a little later: files may arrive while the observer is still setting its watch.
_LOOKS = 2
_SECOND_LOOK_S = 1.0
_RETRY_S = 5.0
# However large the inbox grows, listing it takes no more than this share of the time.
_LARGEST_SHARE = 0.1


class Scanner:
    """Lists the inbox every `interval_s` and when asked to, step by step.

    `completed` counts the listings of the whole inbox and `folders` those that the last one entered; `is_timed` tells
    whether the next is due by the clock alone, and `error` why the last one failed, None where it did not.
    """

    def __init__(self, inbox: WatchedFolder, interval_s: float, clock: Callable[[], float]) -> None:
        self._inbox = inbox
        self._clock = clock
        self._interval_s = interval_s
        self._walk: Iterator[FileRef] | None = None
        self._is_full_scan = False
        self._busy_s = 0.0
        # When to list a folder, and how often still.
        self._folders: dict[str, tuple[float, int]] = {}
        self._next_full_s = clock()
        self._counts = WalkCounts()
        self.is_timed = False
        self.completed = 0
        self.folders = 0
        self.error: str | None = None

    def set_interval(self, interval_s: float) -> None:
        """List at least this often from now on."""
        self._interval_s = interval_s
        self._next_full_s = min(self._next_full_s, self._clock() + interval_s)

    def request(self) -> None:
        """List the whole inbox as soon as possible; a listing under way comes first, or it might never end."""
        self._next_full_s = self._clock()
        self.is_timed = False

    def request_folder(self, path: str) -> None:
        """List one folder below the inbox now, and once more in a second."""
        if len(self._folders) >= _FOLDERS:
            self.request()
            return
        if self._inbox.wants_folder(path):
            self._folders[path] = (self._clock(), _LOOKS)

    def cancel(self) -> None:
        """Drop the listing under way."""
        self._walk = None

    def next_due_s(self) -> float:
        """Return when `step` has something to do, by the clock."""
        if self._walk is not None:
            return self._clock()
        return min([self._next_full_s, *(at_s for at_s, _ in self._folders.values())])

    def step(self) -> list[FileRef]:
        """Return the next files of the listing under way or due, at most 256; none where nothing is due."""
        began_s = self._clock()
        if self._walk is None and not self._begin(began_s):
            return []
        assert self._walk is not None
        try:
            refs = list(islice(self._walk, STEP_FILES))
            self.error = None
        except OSError as error:
            self._walk = None
            if self._is_full_scan:
                self.error = error.strerror or str(error)
                self._next_full_s = began_s + _RETRY_S
            return []
        self._busy_s += self._clock() - began_s
        if len(refs) < STEP_FILES:
            self._end()
        return refs

    def _begin(self, now_s: float) -> bool:
        if self._next_full_s <= now_s:
            self._is_full_scan = True
            self._next_full_s = float("inf")
            self._folders.clear()
            folder, prefix = str(self._inbox.folder), ""
        else:
            due = next((path for path, (at_s, _) in self._folders.items() if at_s <= now_s), None)
            if due is None:
                return False
            self._is_full_scan = False
            folder, prefix = due, self._inbox.name_of(due) + "/"
            _, looks = self._folders.pop(due)
            if looks > 1:
                self._folders[due] = (now_s + _SECOND_LOOK_S, looks - 1)
        self._busy_s = 0.0
        self._counts = WalkCounts()
        self._walk = walk(Path(folder), self._inbox.rules, self._counts, prefix, is_sorted=False)
        return True

    def _end(self) -> None:
        self._walk = None
        if self._is_full_scan:
            self.completed += 1
            self.folders = self._counts.folders
            at_s = self._clock() + max(self._interval_s, self._busy_s / _LARGEST_SHARE)
            self.is_timed = at_s <= self._next_full_s
            self._next_full_s = min(self._next_full_s, at_s)
