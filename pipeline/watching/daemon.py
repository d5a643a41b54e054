"""The loop of `watch-folder`: find files, label settled ones, commit rows, report; one thread, all memory bounded."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator

from models.errors import ModelError
from pipeline.errors import Interrupted, LabelDirError, OutputError
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.status_reporter import StatusReporter
from pipeline.records import FileRef, Row
from pipeline.watching.control import LoopControl
from pipeline.watching.event_supervisor import EventSupervisor
from pipeline.watching.labeller_supervisor import LabellerSupervisor, RunningLabeller
from pipeline.watching.pending_files import PendingFiles
from pipeline.watching.row_committer import RowCommitter
from pipeline.watching.settle_tracker import InProgress

logger = logging.getLogger(__name__)

_TICK_S = 1.0
# While rows come in, events and commits are handled this often.
_BETWEEN_ROWS_S = 0.05
# A turn takes far less: a longer gap means that this process was suspended.
_SUSPENDED_S = 5.0
# An index that cannot be read will not be readable a moment later.
_INDEX_RETRY_S = 1.0
_ATTEMPTS_OF_ONE_PASS = 3


class Daemon:
    """Runs until a stop is requested; every collaborator is passed in, so that tests can observe each of them."""

    def __init__(
        self,
        event_supervisor: EventSupervisor,
        pending_files: PendingFiles,
        row_committer: RowCommitter,
        labeller_supervisor: LabellerSupervisor[RunningLabeller],
        stats: DaemonStats,
        reporter: StatusReporter,
        control: LoopControl,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event_supervisor = event_supervisor
        self._pending_files = pending_files
        self._row_committer = row_committer
        self._labeller_supervisor = labeller_supervisor
        self._stats = stats
        self._reporter = reporter
        self._control = control
        self._clock = clock
        self._index_failures = 0
        self._updated_s = clock()
        self._next_tick_s = clock()
        self._next_update_s = clock()

    def run(self, once: bool = False) -> None:
        """Watch and label until a stop is requested or, with `once`, until nothing is left to do.

        Raises:
            InputMissingError: the inbox does not exist at the start.
            OutputError: the last rows could not be written; the next start labels their photos again.
            LabelDirError: the model cannot be loaded at the start.
        """
        self._event_supervisor.mark_inbox()
        try:
            # Before the observer's threads: only a process with one thread can fork the fork server of the decoders.
            self._labeller_supervisor.start()
            self._event_supervisor.start()
            self._reporter.ready()
            self._control.is_running = True
            while not (self._control.stop_requested or (once and self._is_finished())):
                self._survive_turn(once)
                self._control.wait(self._pause_s())
            self._reporter.stopping()
            self._flush_last_rows()
        finally:
            self._close()

    def _survive_turn(self, once: bool) -> None:
        """Do the work that is due; an error that nobody expected is logged, and ends no daemon that has begun."""
        try:
            self.turn()
        except Interrupted:
            raise
        except Exception as error:
            if once:
                raise
            logger.exception("this is a bug, please report it; watching goes on")
            self._pending_files.requeue_all()
            self._labeller_supervisor.back_off(error)

    def turn(self) -> None:
        """Do all the work that is due now."""
        self._update()
        if self._control.reload_requested:
            self._control.reload_requested = False
            self._reporter.reloading()
            self._labeller_supervisor.reload()
        self._labeller_supervisor.restart_if_due()
        labeller = self._labeller_supervisor.labeller
        if labeller is not None and self._may_label() and self._pending_files.has_ready:
            self._label(labeller)
        self._row_committer.flush_if_due(is_pause=True)

    def _label(self, labeller: RunningLabeller) -> None:
        try:
            for row in labeller.rows(_Files(self._next_file), self._between_rows):
                finished = self._pending_files.accept(row)
                if finished is not None:
                    self._add(row, finished)
                self._between_rows()
            self._labeller_supervisor.reset_backoff()
        except (LabelDirError, ModelError, OSError) as error:
            self._pending_files.requeue_all()
            self._labeller_supervisor.back_off(error)

    def _add(self, row: Row, finished: InProgress) -> None:
        try:
            self._row_committer.add(row, finished.ref, finished.noticed_s)
        except OSError as error:
            # The row is dropped, and its photo is still in the inbox: the scan finds it again.
            self._stats.set_problem("index", str(error))
            self._pending_files.request_scan()

    def _next_file(self) -> FileRef | None:
        return self._pending_files.next_file() if self._may_label() else None

    def _may_label(self) -> bool:
        return not (
            self._control.stop_requested
            or self._control.reload_requested
            or self._labeller_supervisor.labeller is None
            or self._event_supervisor.is_inbox_absent
            or self._row_committer.is_blocked
        )

    def _between_rows(self) -> None:
        if self._clock() - self._updated_s >= _BETWEEN_ROWS_S:
            self._update()
            self._row_committer.flush_if_due(is_pause=False)

    def _update(self) -> None:
        now_s = self._clock()
        if now_s - self._updated_s > _SUSPENDED_S:
            self._event_supervisor.note_suspension()
        self._updated_s = now_s
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + _TICK_S
            self._tick()
        if self._event_supervisor.is_inbox_absent or now_s < self._next_update_s:
            return
        try:
            self._pending_files.update(self._event_supervisor.pop_hints())
            self._stats.set_problem("index", None)
            self._index_failures = 0
        except OSError as error:
            self._index_failures += 1
            self._next_update_s = now_s + _INDEX_RETRY_S
            self._stats.set_problem("index", str(error))

    def _tick(self) -> None:
        self._event_supervisor.check()
        if self._event_supervisor.is_inbox_absent:
            # The inbox may come back as another mount, which a listing of the old one would never see.
            self._pending_files.cancel_scan()
        self._update_stats()
        self._reporter.tick()

    def _update_stats(self) -> None:
        self._stats.queue_depth = len(self._pending_files)
        self._stats.oldest_unlabelled_s = self._pending_files.oldest_age_s()
        self._stats.rows_not_durable = self._row_committer.rows_not_durable
        self._stats.process_restarts = self._labeller_supervisor.restarts

    def _is_finished(self) -> bool:
        if max(self._row_committer.failed_commits, self._index_failures) >= _ATTEMPTS_OF_ONE_PASS:
            return True
        return self._pending_files.is_idle and self._row_committer.is_empty

    def _pause_s(self) -> float:
        if self._may_label() and self._pending_files.has_ready:
            return 0.0
        is_absent = self._event_supervisor.is_inbox_absent
        update_s = math.inf if is_absent else max(self._next_update_s, self._pending_files.next_due_s())
        return min(self._next_tick_s, self._row_committer.due_s(is_pause=True), update_s) - self._clock()

    def _flush_last_rows(self) -> None:
        try:
            self._row_committer.flush()
        except OSError as error:
            raise OutputError(f"the last rows cannot be written ({error.strerror or error}); run it again") from error

    def _close(self) -> None:
        self._event_supervisor.stop()
        self._labeller_supervisor.close()
        self._update_stats()
        self._reporter.stopped()


class _Files(Iterator[FileRef]):
    """The files that are ready. A generator could not go on after its end, as the labeller requires."""

    def __init__(self, next_file: Callable[[], FileRef | None]) -> None:
        self._next_file = next_file

    def __next__(self) -> FileRef:
        ref = self._next_file()
        if ref is None:
            raise StopIteration
        return ref
