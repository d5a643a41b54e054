"""The loop of `watch-folder`: look around, label what is at rest, commit, tell; one thread, nothing unbounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pipeline.errors import OutputError, WorkerDiedError
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.status_reporter import StatusReporter
from pipeline.records import FileRef, Row
from pipeline.watching.control import StopRequests, Wakeup
from pipeline.watching.event_supervisor import EventSupervisor
from pipeline.watching.labeller_supervisor import LabellerSupervisor
from pipeline.watching.pending_files import PendingFiles
from pipeline.watching.row_committer import RowCommitter
from pipeline.watching.scanner import Scanner
from pipeline.watching.settle_tracker import SettleTracker

logger = logging.getLogger(__name__)

_TICK_S = 1.0
# While rows come in, the rest is looked after this often.
_BETWEEN_ROWS_S = 0.05
_WAS_STOPPED_S = 5.0
# An index that cannot be read will not be well a moment later.
_INDEX_RETRY_S = 1.0
_REFUSALS_OF_ONE_PASS = 3


class Daemon:
    """Runs until it is told to stop; what it is made of is handed in, so that tests can watch each piece."""

    def __init__(
        self,
        event_supervisor: EventSupervisor,
        scanner: Scanner,
        tracker: SettleTracker,
        pending_files: PendingFiles,
        row_committer: RowCommitter,
        labeller_supervisor: LabellerSupervisor,
        once: bool,
        stats: DaemonStats,
        reporter: StatusReporter,
        wakeup: Wakeup,
        requests: StopRequests,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event_supervisor = event_supervisor
        self._scanner = scanner
        self._tracker = tracker
        self._pending_files = pending_files
        self._row_committer = row_committer
        self._labeller_supervisor = labeller_supervisor
        self._once = once
        self._stats = stats
        self._reporter = reporter
        self._wakeup = wakeup
        self._requests = requests
        self._clock = clock
        self._looked_s = clock()
        self._next_tick_s = clock()
        self._look_around_at_s = clock()

    def run(self) -> None:
        """Watch and label until a wish to stop, or, once, until there is nothing left to do.

        Raises:
            InputMissingError: the inbox is not there at the start.
            OutputError: rows could not be written at the end; their photos are labelled again by the next start.
            ModelError, WorkerDiedError: the model cannot be loaded at the start.
        """
        self._event_supervisor.enter()
        try:
            # While this process has one thread and can fork the one that decodes; threads begin with the watching.
            self._labeller_supervisor.start()
            self._event_supervisor.begin()
            self._reporter.ready()
            self._requests.is_running = True
            while not self._is_over():
                self.turn()
                self._wakeup.wait(self._pause_s())
            self._reporter.stopping()
            self._flush_at_last()
        finally:
            self._close()

    def turn(self) -> None:
        """Do what there is to do now."""
        self._look_after()
        if self._requests.reload:
            self._requests.reload = False
            self._reporter.reloading()
            self._labeller_supervisor.reload()
        self._labeller_supervisor.restart_if_due()
        if self._may_label() and self._tracker.ready_count:
            self._label()
        self._row_committer.flush_if_due(is_pause=True)

    def _label(self) -> None:
        assert self._labeller_supervisor.labeller is not None
        try:
            for row in self._labeller_supervisor.labeller.rows(_Files(self._next_file), self._between_rows):
                at_work = self._pending_files.accept(row)
                if at_work is not None:
                    self._take(row, at_work.noticed_s)
                self._between_rows()
            self._labeller_supervisor.has_done_well()
        except (WorkerDiedError, OSError) as error:
            self._tracker.put_all_back()
            self._labeller_supervisor.lose(error)

    def _take(self, row: Row, noticed_s: float) -> None:
        try:
            self._row_committer.take(row, noticed_s)
        except OSError as error:
            # The row is lost and not its photo: the next scan finds it.
            self._stats.trouble("index", str(error))
            self._scanner.request()

    def _next_file(self) -> FileRef | None:
        return self._pending_files.next_file() if self._may_label() else None

    def _may_label(self) -> bool:
        return not (
            self._requests.stop
            or self._requests.reload
            or self._labeller_supervisor.labeller is None
            or self._event_supervisor.is_inbox_away
            or self._row_committer.is_blocked
        )

    def _between_rows(self) -> None:
        if self._clock() - self._looked_s >= _BETWEEN_ROWS_S:
            self._look_after()
            self._row_committer.flush_if_due(is_pause=False)

    def _look_after(self) -> None:
        now_s = self._clock()
        if now_s - self._looked_s > _WAS_STOPPED_S:
            # This process stood still, and who knows what the kernel had to drop meanwhile.
            self._event_supervisor.was_asleep()
        self._looked_s = now_s
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + _TICK_S
            self._tick()
        if self._event_supervisor.is_inbox_away or now_s < self._look_around_at_s:
            return
        try:
            self._pending_files.look_around()
            self._stats.trouble("index", None)
        except OSError as error:
            self._look_around_at_s = now_s + _INDEX_RETRY_S
            self._stats.trouble("index", str(error))

    def _tick(self) -> None:
        self._event_supervisor.check()
        stats = self._stats
        stats.queue_depth = len(self._tracker)
        stats.oldest_unlabelled_s = self._tracker.oldest_age_s()
        stats.rows_not_durable = self._row_committer.rows_not_durable
        stats.process_restarts = self._labeller_supervisor.restarts
        self._reporter.tick()

    def _is_over(self) -> bool:
        if not self._once or self._requests.stop:
            return self._requests.stop
        if self._row_committer.refusals >= _REFUSALS_OF_ONE_PASS:
            return True
        return self._pending_files.is_idle and self._row_committer.is_empty

    def _pause_s(self) -> float:
        now_s = self._clock()
        due = [self._next_tick_s, self._row_committer.due_s(is_pause=True)]
        if now_s < self._look_around_at_s:
            due.append(self._look_around_at_s)
        elif not self._event_supervisor.is_inbox_away:
            due.append(self._tracker.next_due_s())
            due.append(self._scanner.next_due_s() if self._pending_files.can_list else None)
        if self._may_label() and self._tracker.ready_count:
            return 0.0
        return min(due_s for due_s in due if due_s is not None) - now_s

    def _flush_at_last(self) -> None:
        try:
            self._row_committer.flush()
        except OSError as error:
            raise OutputError(f"the last rows cannot be written ({error.strerror or error}); run it again") from error

    def _close(self) -> None:
        self._event_supervisor.end()
        self._labeller_supervisor.close()
        self._stats.queue_depth, self._stats.rows_not_durable = len(self._tracker), self._row_committer.rows_not_durable
        self._reporter.stopped()


class _Files:
    """The files of a pass: it ends when none is ready, and may go on when it is asked again."""

    def __init__(self, next_file: Callable[[], FileRef | None]) -> None:
        self._next_file = next_file

    def __iter__(self) -> _Files:
        return self

    def __next__(self) -> FileRef:
        ref = self._next_file()
        if ref is None:
            raise StopIteration
        return ref
