"""The loop of `label-dir --watch`: repeated runs with one labeller keep the table up to date with the folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from models.errors import ModelError
from pipeline.errors import InputMissingError, LabelDirError, WorkerDiedError
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.sd_notify import SdNotify
from pipeline.records import FileRef, RunSummary
from pipeline.reviews.review_file import review_stamps
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest
from pipeline.watching.control import LoopControl
from pipeline.watching.event_supervisor import EventSupervisor, WatchIntervals
from pipeline.watching.labeller_supervisor import LabellerSupervisor
from pipeline.watching.scan_schedule import ScanSchedule
from pipeline.watching.settle_tracker import SettleTracker
from pipeline.watching.watched_folder import WatchedFolder

_TICK_S = 1.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)


class TableWatch:
    """Runs until a stop is requested. `start` returns the run to repeat and its labeller, again after a reload."""

    def __init__(
        self,
        inbox: WatchedFolder,
        start: Callable[[], tuple[RunRequest, Labeller]],
        intervals: WatchIntervals,
        control: LoopControl,
        on_run: Callable[[RunSummary], None],
        clock: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._start = start
        self._flush_s = intervals.flush_s
        self._control = control
        self._on_run = on_run
        self._clock = clock
        self._request: RunRequest | None = None
        self._stats = DaemonStats()
        self._sd_notify = SdNotify()
        self._tracker = SettleTracker(intervals.settle_s, clock)
        self._schedule = ScanSchedule(intervals.scan_s, clock)
        self._event_supervisor = EventSupervisor(inbox, self._schedule, intervals, self._stats, control.wake, clock)
        self._labeller_supervisor = LabellerSupervisor(self._start_labeller, self._stats, clock)
        self._settled: dict[str, FileRef] | None = None
        self._review_stamps: list[tuple[int, int]] = []
        self._failures = 0
        self._next_tick_s = clock()
        self._last_run_s = clock()

    def run(self) -> None:
        """Bring the table up to date, and again whenever the folder has changed.

        Raises:
            LabelDirError: the first run failed for another reason than its workers; later runs are retried.
            LabelDirError: the model cannot be loaded at the start.
        """
        self._event_supervisor.mark_inbox()
        try:
            # Before the observer's threads: only a process with one thread can fork the fork server of the decoders.
            self._labeller_supervisor.start()
            self._event_supervisor.start()
            self._control.is_running = True
            while not self._control.stop_requested:
                self._turn()
                self._control.wait(self._pause_s())
        finally:
            self._labeller_supervisor.close()
            self._event_supervisor.stop()

    def _start_labeller(self) -> Labeller:
        self._request, labeller = self._start()
        self._stats.model = self._request.artifact.model_id
        return labeller

    def _turn(self) -> None:
        self._tick()
        self._read_hints()
        if self._control.reload_requested:
            self._control.reload_requested = False
            if self._labeller_supervisor.reload():
                self._schedule.request()
        self._labeller_supervisor.restart_if_due()
        labeller = self._labeller_supervisor.labeller
        if labeller is None or self._event_supervisor.is_inbox_absent or self._clock() < self._schedule.due_s:
            return
        self._schedule.start()
        try:
            self._run_once(labeller)
        except (WorkerDiedError, ModelError, OSError) as error:
            self._schedule.request()
            self._labeller_supervisor.back_off(error)
        except LabelDirError as error:
            if not self._schedule.completed:
                raise
            self._schedule.due_s = self._clock() + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
            self._failures += 1
            self._stats.set_problem("table", str(error))

    def _run_once(self, labeller: Labeller) -> None:
        """Run with the settled files; the first time with all files, as a run without `--watch` does."""
        assert self._request is not None
        is_first = self._schedule.completed == 0
        settled = [] if is_first else [file.ref for file in iter(self._tracker.pop_ready, None)]
        self._settled = None if is_first else {ref.name: ref for ref in settled}
        hooks = Hooks(
            on_row=lambda _row, _kept: self._tick(),
            time_is_up=lambda: self._control.stop_requested,
            is_at_rest=self._is_settled,
            on_walked=self._refuse_an_absent_inbox,
        )
        began_s = self._clock()
        # Before the run reads the reviews: one that is made meanwhile is for the next run.
        self._review_stamps = self._stamps_now()
        try:
            # A fresh run keeps no rows: the second one would remove those of all files that did not settle just now.
            summary = run(replace(self._request, fresh=self._request.fresh and is_first), hooks, labeller)
        finally:
            for ref in settled:
                self._tracker.finish(ref.name)
        self._last_run_s = self._clock()
        is_quiet = not (summary.labelled or summary.copied or summary.failed or summary.removed)
        self._schedule.complete(folder_count=0, busy_s=self._last_run_s - began_s if is_quiet else 0.0)
        self._failures = 0
        self._stats.set_problem("table", None)
        if summary.labelled:
            self._labeller_supervisor.reset_backoff()
        if is_first:
            self._sd_notify.send(READY=1)
        self._on_run(summary)

    def _is_settled(self, ref: FileRef) -> bool:
        if self._settled is None or self._settled.get(ref.name) == ref:
            return True
        return not self._tracker.notice(ref)

    def _stamps_now(self) -> list[tuple[int, int]]:
        assert self._request is not None
        return review_stamps(self._request.reviews_path)

    def _refuse_an_absent_inbox(self) -> None:
        if reason := self._inbox.absence_reason():
            raise InputMissingError(f"{self._inbox.folder}: {reason}")

    def _read_hints(self) -> None:
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
        is_changed |= self._schedule.completed > 0 and self._stamps_now() != self._review_stamps
        if is_changed or self._tracker.ready_count:
            self._schedule.due_s = min(self._schedule.due_s, self._last_run_s + self._flush_s)

    def _tick(self) -> None:
        if self._clock() >= self._next_tick_s:
            self._next_tick_s = self._clock() + _TICK_S
            self._sd_notify.send(WATCHDOG=1, STATUS=self._stats.health)
            self._event_supervisor.check()

    def _pause_s(self) -> float:
        can_run = self._labeller_supervisor.labeller is not None and not self._event_supervisor.is_inbox_absent
        run_s = self._schedule.due_s if can_run else math.inf
        return min(self._next_tick_s, self._tracker.next_due_s(), run_s) - self._clock()
