"""Everything between the inbox and the labeller: hints and listings in, settled files out, rows accepted or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pipeline.datasets.append_dataset import AppendDataset
from pipeline.datasets.row_index import Entry
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import ErrorClass, FileRef, Row
from pipeline.watching.file_events import Hints
from pipeline.watching.scanner import STEP_FILES, Scanner
from pipeline.watching.settle_tracker import Hint, InProgress, SettleTracker
from pipeline.watching.watched_folder import WatchedFolder

# A network share may fail for a moment, and permissions may come a moment after the bytes: retried before the file
# gets an error row.
_TRANSIENT = frozenset({ErrorClass.IO, ErrorClass.PERMISSION})
_ATTEMPTS = 3


class PendingFiles:
    """The files of the inbox without a row; `on_labelled` is called for files that are there and have their row."""

    def __init__(
        self,
        inbox: WatchedFolder,
        scanner: Scanner,
        tracker: SettleTracker,
        sink: AppendDataset,
        stats: DaemonStats,
        on_labelled: Callable[[Entry], None],
    ) -> None:
        self._inbox = inbox
        self._scanner = scanner
        self._schedule = scanner.schedule
        self._tracker = tracker
        self._sink = sink
        self._stats = stats
        self._on_labelled = on_labelled
        self._has_overflowed = False

    def __len__(self) -> int:
        return len(self._tracker)

    @property
    def has_ready(self) -> bool:
        """Whether a file is ready to be labelled."""
        return self._tracker.ready_count > 0

    @property
    def is_idle(self) -> bool:
        """Whether the whole inbox has been listed, and every file in it without a row was handed out and finished."""
        is_listed = self._schedule.completed > 0 and not self._scanner.is_due
        return is_listed and not self._has_overflowed and not len(self)

    def oldest_age_s(self) -> float:
        """Return how long the file that has waited longest is known, 0 if no file waits."""
        return self._tracker.oldest_age_s()

    def next_due_s(self) -> float:
        """Return the time from which `update` has work to do without a hint, infinity if it has none."""
        return min(self._tracker.next_due_s(), self._scanner.next_due_s() if self._has_room else math.inf)

    def update(self, hints: Hints | None) -> None:
        """Look at the files that events name and at those whose wait is over, and list the next step of a scan.

        Without events `hints` is None.

        Raises:
            OSError: the index of the rows cannot be read.
        """
        try:
            if hints is not None:
                self._add_hinted(hints)
            self._tracker.recheck(self._inbox.stat)
            if self._has_overflowed and self._has_room:
                self._has_overflowed = False
                self._schedule.request()
            if self._has_room:
                self._add_listed(has_events=hints is not None)
        except OSError:
            # A scan finds the files of this update again.
            self._schedule.request()
            raise

    def request_scan(self) -> None:
        """List the whole inbox as soon as possible."""
        self._schedule.request()

    def cancel_scan(self) -> None:
        """Drop the listing that is running: the inbox is absent."""
        self._scanner.cancel()

    def next_file(self) -> FileRef | None:
        """Return a file that is still as it settled, now in progress; None if there is none."""
        while (in_progress := self._tracker.pop_ready()) is not None:
            now = self._inbox.stat(in_progress.ref.path)
            if now == in_progress.ref:
                return now
            self._tracker.finish(in_progress.ref.name)
            if now is None:
                self._stats.vanished += 1
            else:
                self._tracker.notice(now)
        return None

    def accept(self, row: Row) -> InProgress | None:
        """Return what was known of the file of `row`; None if the row does not count.

        A file that is gone and could not be read gets no row. A file that is being written gets its row when it has
        settled. A file with a transient error is tried again.
        """
        finished = self._tracker.finish(row.file_name)
        now = self._inbox.stat(finished.ref.path)
        if now is None:
            self._stats.vanished += row.error is not None
            return finished if row.error is None else None
        # The same file before and after it was read, or the row may be of other bytes than the file there now.
        is_other = now != finished.ref or (now.size_bytes, now.mtime_us) != (row.size_bytes, row.mtime_us)
        error_class = None if row.error is None else row.error.error_class
        is_transient = error_class in _TRANSIENT and finished.attempt < _ATTEMPTS
        if is_other or is_transient or error_class in (ErrorClass.CHANGED, ErrorClass.VANISHED):
            self._tracker.requeue(finished, now)
            return None
        return finished

    def requeue_all(self) -> None:
        """Requeue every file in progress: the processes that had them are gone."""
        self._tracker.requeue_all()

    @property
    def _has_room(self) -> bool:
        return self._tracker.room >= STEP_FILES

    def _add_hinted(self, hints: Hints) -> None:
        if hints.scan:
            self._schedule.request()
        for folder in hints.folders:
            self._scanner.request_folder(folder)
        refs: list[FileRef] = []
        for path in hints.files:
            ref = self._inbox.stat(path)
            if ref is None:
                self._tracker.forget(self._inbox.row_name(path))
            else:
                refs.append(ref)
        for ref in self._without_row(refs):
            self._has_overflowed |= not self._tracker.notice(ref, hints.files[ref.path])

    def _add_listed(self, has_events: bool) -> None:
        is_timed = self._schedule.is_timed and has_events
        before = len(self)
        for ref in self._without_row(self._scanner.step()):
            self._has_overflowed |= not self._tracker.notice(ref, Hint.CHANGED)
        if is_timed:
            self._stats.rescan_finds += len(self) - before

    def _without_row(self, refs: list[FileRef]) -> Iterator[FileRef]:
        entries = self._sink.find(refs)
        for ref in refs:
            entry = entries.get(ref.name)
            if entry is None:
                yield ref
            else:
                self._tracker.forget(ref.name)
                self._on_labelled(entry)
