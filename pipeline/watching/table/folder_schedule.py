"""When the table of a watched folder is brought up to date next, and which of the folder's files take part."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from pipeline.errors import InputMissingError
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import FileRef, RunSummary
from pipeline.reviews.review_file import review_stamps
from pipeline.run_request import Hooks, RunRequest
from pipeline.watching.event_supervisor import EventSupervisor, WatchIntervals
from pipeline.watching.settle_tracker import SettleTracker
from pipeline.watching.table.run_schedule import RunSchedule
from pipeline.watching.watched_folder import WatchedFolder


class FolderSchedule(RunSchedule):
    """A run at intervals, and soon after files have settled or gone, or a review was made; none without the folder.

    The first run takes all files, as a run without `--watch` does; the later ones take those that have settled.
    """

    def __init__(
        self,
        inbox: WatchedFolder,
        intervals: WatchIntervals,
        stats: DaemonStats,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(intervals.scan_s, clock)
        self._inbox = inbox
        self._flush_s = intervals.flush_s
        self._tracker = SettleTracker(intervals.settle_s, clock)
        self._event_supervisor = EventSupervisor(inbox, self._scans, intervals, stats, wake, clock)
        self._settled: dict[str, FileRef] | None = None
        self._request: RunRequest | None = None
        self._review_stamps: list[tuple[int, int]] = []
        self._last_run_s = clock()

    def claim(self) -> None:
        """Put the marker into the folder.

        Raises:
            InputMissingError: the inbox is no folder, or cannot be listed.
        """
        self._event_supervisor.mark_inbox()

    def start(self) -> None:
        """Start the observer of file events."""
        self._event_supervisor.start()

    def stop(self) -> None:
        """Stop the observer and remove the marker."""
        self._event_supervisor.stop()

    @property
    def due_s(self) -> float:
        """The time of the next run; infinity while the folder is away."""
        return math.inf if self._event_supervisor.is_inbox_absent else self._scans.due_s

    def next_look_s(self) -> float:
        """Return the time at which the next file may have settled."""
        return self._tracker.next_due_s()

    def check(self) -> None:
        """Test whether the folder is there and its events arrive."""
        self._event_supervisor.check()

    def read_changes(self) -> None:
        """Take in what happened to files; a run is due once some have settled or gone, or a review was made."""
        hints = self._event_supervisor.pop_hints()
        is_changed = bool(hints and (hints.scan or any(map(self._inbox.includes_folder, hints.folders))))
        for path, hint in hints.files.items() if hints else ():
            ref = self._inbox.stat(path)
            if ref is not None:
                is_changed |= not self._tracker.notice(ref, hint)
            elif self._inbox.includes(path):
                self._tracker.forget(self._inbox.row_name(path))
                is_changed = True
        self._tracker.recheck(self._inbox.stat)
        if self._request is not None and not self.is_first:
            is_changed |= review_stamps(self._request.reviews_path) != self._review_stamps
        if is_changed or self._tracker.ready_count:
            self._scans.due_s = min(self._scans.due_s, self._last_run_s + self._flush_s)

    @contextlib.contextmanager
    def running(self, request: RunRequest) -> Iterator[Hooks]:
        """Do the run `request` inside, of the files that have settled; the first time of all."""
        self._request = request
        self._scans.start()
        settled = [] if self.is_first else [file.ref for file in iter(self._tracker.pop_ready, None)]
        self._settled = None if self.is_first else {ref.name: ref for ref in settled}
        # Before the run reads the reviews: one that is made meanwhile is for the next run.
        self._review_stamps = review_stamps(request.reviews_path)
        try:
            yield Hooks(is_at_rest=self._is_settled, on_walked=self._refuse_an_absent_inbox)
        finally:
            for ref in settled:
                self._tracker.finish(ref.name)

    def complete(self, summary: RunSummary, busy_s: float) -> None:
        """Note that a run came to its end after `busy_s`, and schedule the next one."""
        self._last_run_s = self._clock()
        super().complete(summary, busy_s)

    def _is_settled(self, ref: FileRef) -> bool:
        if self._settled is None or self._settled.get(ref.name) == ref:
            return True
        return not self._tracker.notice(ref)

    def _refuse_an_absent_inbox(self) -> None:
        if reason := self._inbox.absence_reason():
            raise InputMissingError(f"{self._inbox.folder}: {reason}")
