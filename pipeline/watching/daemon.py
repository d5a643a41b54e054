"""The loop of `watch-folder`: look around, label what is at rest, commit, tell; one thread, nothing unbounded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pipeline.errors import OutputError, WorkerDiedError
from pipeline.monitoring.daemon_stats import Vitals
from pipeline.monitoring.status_reporter import Reporter
from pipeline.records import FileRef, Row
from pipeline.watching.event_supervisor import Lookout
from pipeline.watching.labeller_supervisor import Keeper
from pipeline.watching.pending_files import Intake
from pipeline.watching.row_committer import Outlet
from pipeline.watching.scanner import Scanner
from pipeline.watching.settle_tracker import Tracker
from pipeline.watching.wakeup import Wakeup
from pipeline.watching.wishes import Wishes

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
        lookout: Lookout,
        scanner: Scanner,
        tracker: Tracker,
        intake: Intake,
        outlet: Outlet,
        keeper: Keeper,
        once: bool,
        vitals: Vitals,
        reporter: Reporter,
        wakeup: Wakeup,
        wishes: Wishes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookout = lookout
        self._scanner = scanner
        self._tracker = tracker
        self._intake = intake
        self._outlet = outlet
        self._keeper = keeper
        self._once = once
        self._vitals = vitals
        self._reporter = reporter
        self._wakeup = wakeup
        self._wishes = wishes
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
        self._lookout.enter()
        try:
            # While this process has one thread and can fork the one that decodes; threads begin with the watching.
            self._keeper.start()
            self._lookout.begin()
            self._reporter.ready()
            self._wishes.is_running = True
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
        if self._wishes.reload:
            self._wishes.reload = False
            self._reporter.reloading()
            self._keeper.reload()
        self._keeper.restart_if_due()
        if self._may_label() and self._tracker.ready_count:
            self._label()
        self._outlet.flush_if_due(is_pause=True)

    def _label(self) -> None:
        assert self._keeper.labeller is not None
        try:
            for row in self._keeper.labeller.rows(_Files(self._next_file), self._between_rows):
                at_work = self._intake.accept(row)
                if at_work is not None:
                    self._take(row, at_work.noticed_s)
                self._between_rows()
            self._keeper.has_done_well()
        except (WorkerDiedError, OSError) as error:
            self._tracker.put_all_back()
            self._keeper.lose(error)

    def _take(self, row: Row, noticed_s: float) -> None:
        try:
            self._outlet.take(row, noticed_s)
        except OSError as error:
            # The row is lost and not its photo: the next scan finds it.
            self._vitals.trouble("index", str(error))
            self._scanner.request()

    def _next_file(self) -> FileRef | None:
        return self._intake.next_file() if self._may_label() else None

    def _may_label(self) -> bool:
        return not (
            self._wishes.stop
            or self._wishes.reload
            or self._keeper.labeller is None
            or self._lookout.is_inbox_away
            or self._outlet.is_blocked
        )

    def _between_rows(self) -> None:
        if self._clock() - self._looked_s >= _BETWEEN_ROWS_S:
            self._look_after()
            self._outlet.flush_if_due(is_pause=False)

    def _look_after(self) -> None:
        now_s = self._clock()
        if now_s - self._looked_s > _WAS_STOPPED_S:
            # This process stood still, and who knows what the kernel had to drop meanwhile.
            self._lookout.was_asleep()
        self._looked_s = now_s
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + _TICK_S
            self._tick()
        if self._lookout.is_inbox_away or now_s < self._look_around_at_s:
            return
        try:
            self._intake.look_around()
            self._vitals.trouble("index", None)
        except OSError as error:
            self._look_around_at_s = now_s + _INDEX_RETRY_S
            self._vitals.trouble("index", str(error))

    def _tick(self) -> None:
        self._lookout.check()
        vitals = self._vitals
        vitals.queue_depth = len(self._tracker)
        vitals.oldest_unlabelled_s = self._tracker.oldest_age_s()
        vitals.rows_not_durable = self._outlet.rows_not_durable
        vitals.process_restarts = self._keeper.restarts
        self._reporter.tick()

    def _is_over(self) -> bool:
        if not self._once or self._wishes.stop:
            return self._wishes.stop
        if self._outlet.refusals >= _REFUSALS_OF_ONE_PASS:
            return True
        return self._intake.is_idle and self._outlet.is_empty

    def _pause_s(self) -> float:
        now_s = self._clock()
        due = [self._next_tick_s, self._outlet.due_s(is_pause=True)]
        if now_s < self._look_around_at_s:
            due.append(self._look_around_at_s)
        elif not self._lookout.is_inbox_away:
            due.append(self._tracker.next_due_s())
            due.append(self._scanner.next_due_s() if self._intake.can_list else None)
        if self._may_label() and self._tracker.ready_count:
            return 0.0
        return min(due_s for due_s in due if due_s is not None) - now_s

    def _flush_at_last(self) -> None:
        try:
            self._outlet.flush()
        except OSError as error:
            raise OutputError(f"the last rows cannot be written ({error.strerror or error}); run it again") from error

    def _close(self) -> None:
        self._lookout.end()
        self._keeper.close()
        self._vitals.queue_depth, self._vitals.rows_not_durable = len(self._tracker), self._outlet.rows_not_durable
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
