"""When a watched table is brought up to date next, where photos are looked for by the clock alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from pipeline.records import RunSummary
from pipeline.run_request import Hooks, RunRequest
from pipeline.watching.scan_schedule import ScanSchedule


class RunSchedule:
    """A run every `interval_s`, and as soon as possible after a request: an object store reports no changes.

    `FolderSchedule` also knows what happens in a folder.
    """

    def __init__(self, interval_s: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._scans = ScanSchedule(interval_s, clock)

    def claim(self) -> None:
        """Mark the photos as watched, before any process is started."""

    def start(self) -> None:
        """Start to watch, by threads where there are any."""

    def stop(self) -> None:
        """End what `claim` and `start` began."""

    @property
    def due_s(self) -> float:
        """The time of the next run; infinity while there can be none."""
        return self._scans.due_s

    @property
    def is_first(self) -> bool:
        """Whether no run has come to its end yet."""
        return self._scans.completed == 0

    def next_look_s(self) -> float:
        """Return the time at which `read_changes` has something to do even if nothing happens; infinity for never."""
        return math.inf

    def check(self) -> None:
        """Test whether changes are still noticed; to be called about once a second."""

    def read_changes(self) -> None:
        """Bring the time of the next run forward where something has changed."""

    def request(self) -> None:
        """Run as soon as possible."""
        self._scans.request()

    def postpone(self, delay_s: float) -> None:
        """Run after `delay_s`, because the last run failed."""
        self._scans.due_s = self._clock() + delay_s

    @contextlib.contextmanager
    def running(self, request: RunRequest) -> Iterator[Hooks]:
        """Do the run `request` inside, with the hooks by which its photos are selected."""
        self._scans.start()
        yield Hooks()

    def complete(self, summary: RunSummary, busy_s: float) -> None:
        """Note that a run came to its end after `busy_s`, and schedule the next one."""
        is_quiet = not (summary.labelled or summary.copied or summary.failed or summary.removed)
        self._scans.complete(folder_count=0, busy_s=busy_s if is_quiet else 0.0)
