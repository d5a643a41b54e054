"""When the whole watched folder is listed next, and how the last listings ended."""

from __future__ import annotations

import math
from collections.abc import Callable

# However large the folder grows, listing it takes no more than this share of the time.
_LARGEST_SHARE = 0.1


class ScanSchedule:
    """A scan every `interval_s`, and as soon as possible after a request; `due_s` is the time of the next one.

    `completed` counts the scans that reached the end, and `folder_count` the folders that the last of them entered.
    `is_timed` tells whether the next scan is due by the interval alone. `error` is the reason why the last scan failed.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self.due_s = clock()
        self.is_timed = False
        self.completed = 0
        self.folder_count = 0
        self.error: str | None = None

    def set_interval(self, interval_s: float) -> None:
        """Scan at least this often from now on."""
        self._interval_s = interval_s
        self.due_s = min(self.due_s, self._clock() + interval_s)

    def request(self) -> None:
        """Scan as soon as possible; a scan that is running is finished first, or it might never end."""
        self.due_s = self._clock()
        self.is_timed = False

    def start(self) -> None:
        """Note that a scan starts: the next one is due when this one completes, or when it is requested."""
        self.due_s = math.inf

    def complete(self, folder_count: int, busy_s: float) -> None:
        """Note that a scan reached the end after `busy_s`, and schedule the next one."""
        self.completed += 1
        self.folder_count = folder_count
        at_s = self._clock() + max(self._interval_s, busy_s / _LARGEST_SHARE)
        self.is_timed = at_s <= self.due_s
        self.due_s = min(self.due_s, at_s)
