"""Everything between the inbox and the labeller: hints and listings in, files at rest out, rows accepted or not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import ErrorClass, FileRef, Row
from pipeline.tables.append_dataset import AppendDataset
from pipeline.tables.row_index import Entry
from pipeline.watching.file_events import FileEvents, Hints
from pipeline.watching.scanner import STEP_FILES, Scanner
from pipeline.watching.settle_tracker import AtWork, Hint, SettleTracker
from pipeline.watching.watched_folder import WatchedFolder

logger = logging.getLogger(__name__)

# A share that stumbles, a file whose permissions come a moment after its bytes: tried again before it is a row.
_PASSING = frozenset({ErrorClass.IO, ErrorClass.PERMISSION})
_ATTEMPTS = 3


class PendingFiles:
    """Feeds the tracker and takes from it; `on_known` hears of files that lie there and have their row."""

    def __init__(
        self,
        inbox: WatchedFolder,
        scanner: Scanner,
        tracker: SettleTracker,
        sink: AppendDataset,
        stats: DaemonStats,
        on_known: Callable[[Entry], None],
    ) -> None:
        self._inbox = inbox
        self._scanner = scanner
        self._tracker = tracker
        self._sink = sink
        self._stats = stats
        self._on_known = on_known
        self._turned_away = False
        self.watcher: FileEvents | None = None

    @property
    def can_list(self) -> bool:
        """Whether there is room for what the next step of a listing may find."""
        return self._tracker.room >= STEP_FILES

    @property
    def is_idle(self) -> bool:
        """Whether the whole inbox has been listed and every file without a row has been handed out and come back."""
        return self._scanner.completed > 0 and not self._turned_away and not len(self._tracker)

    def look_around(self) -> None:
        """Take what events hint at, look at files whose rest is over, and go one step on in a listing.

        Raises:
            OSError: the index of what has a row cannot be read.
        """
        try:
            if self.watcher is not None:
                self._take_hints(self.watcher.take())
            for ref in self._tracker.to_look_at():
                now = self._inbox.look(ref.path)
                if now is None:
                    self._tracker.gone(ref.name)
                else:
                    self._tracker.notice(now)
            if self._turned_away and self.can_list:
                self._turned_away = False
                self._scanner.request()
            if self.can_list:
                self._list_on()
        except OSError:
            # What was being looked at is found again.
            self._scanner.request()
            raise

    def next_file(self) -> FileRef | None:
        """Return a file that is at rest at this moment and now at work; None where there is none."""
        while (at_work := self._tracker.take()) is not None:
            now = self._inbox.look(at_work.ref.path)
            if now == at_work.ref:
                return now
            self._tracker.finish(at_work.ref.name)
            if now is None:
                self._stats.vanished += 1
            else:
                self._tracker.notice(now)
        return None

    def accept(self, row: Row) -> AtWork | None:
        """Return what was known of the file of `row`; None where the row does not count.

        A file that is gone and could not be read has no row, one that is being written gets it when it rests, and
        one that may be read a moment later is tried again.
        """
        at_work = self._tracker.finish(row.file_name)
        now = self._inbox.look(at_work.ref.path)
        if now is None:
            self._stats.vanished += row.error is not None
            return at_work if row.error is None else None
        is_other = (now.size_bytes, now.mtime_us) != (row.size_bytes, row.mtime_us)
        error_class = None if row.error is None else row.error.error_class
        is_passing = error_class in _PASSING and at_work.attempt < _ATTEMPTS
        if is_other or is_passing or error_class in (ErrorClass.CHANGED, ErrorClass.VANISHED):
            self._tracker.put_back(at_work, now)
            return None
        return at_work

    def _take_hints(self, hints: Hints) -> None:
        if hints.scan:
            self._scanner.request()
        for folder in hints.folders:
            self._scanner.request_folder(folder)
        refs: list[FileRef] = []
        for path in hints.files:
            ref = self._inbox.look(path)
            if ref is None:
                self._tracker.gone(self._inbox.name_of(path))
            else:
                refs.append(ref)
        for ref in self._without_row(refs):
            self._turned_away |= not self._tracker.notice(ref, hints.files[ref.path])

    def _list_on(self) -> None:
        is_timed = self._scanner.is_timed and self.watcher is not None
        before = len(self._tracker)
        for ref in self._without_row(self._scanner.step()):
            self._turned_away |= not self._tracker.notice(ref, Hint.CHANGED)
        if is_timed:
            self._stats.rescan_finds += len(self._tracker) - before

    def _without_row(self, refs: list[FileRef]) -> Iterable[FileRef]:
        known = self._sink.find(refs)
        for ref in refs:
            entry = known.get(ref.name)
            if entry is None:
                yield ref
            else:
                self._tracker.gone(ref.name)
                self._on_known(entry)
