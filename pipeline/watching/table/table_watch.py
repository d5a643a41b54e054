"""The loop of `label-dir --watch`: repeated runs with one labeller keep the table up to date with the photos."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from models.errors import ModelError
from pipeline.errors import LabelDirError, WorkerDiedError
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.sd_notify import SdNotify
from pipeline.records import RunSummary
from pipeline.run import run
from pipeline.run_request import RunRequest
from pipeline.watching.control import LoopControl
from pipeline.watching.labeller_supervisor import LabellerSupervisor
from pipeline.watching.table.run_schedule import RunSchedule

_TICK_S = 1.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)


class TableWatch:
    """Runs until a stop is requested. `start` returns the run to repeat and its labeller, again after a reload."""

    def __init__(
        self,
        start: Callable[[], tuple[RunRequest, Labeller]],
        schedule: RunSchedule,
        stats: DaemonStats,
        control: LoopControl,
        on_run: Callable[[RunSummary], None],
        clock: Callable[[], float],
    ) -> None:
        self._start = start
        self._schedule = schedule
        self._stats = stats
        self._control = control
        self._on_run = on_run
        self._clock = clock
        self._request: RunRequest | None = None
        self._sd_notify = SdNotify()
        self._labeller_supervisor = LabellerSupervisor(self._start_labeller, stats, clock)
        self._failures = 0
        self._next_tick_s = clock()

    def run(self) -> None:
        """Bring the table up to date, and again whenever the schedule says so.

        Raises:
            LabelDirError: the first run failed for another reason than its workers; later runs are retried.
            LabelDirError: the model cannot be loaded at the start.
        """
        self._schedule.claim()
        try:
            # Before the schedule's threads: only a process with one thread can fork the fork server of the decoders.
            self._labeller_supervisor.start()
            self._schedule.start()
            self._control.is_running = True
            while not self._control.stop_requested:
                self._turn()
                self._control.wait(self._pause_s())
        finally:
            self._labeller_supervisor.close()
            self._schedule.stop()

    def _start_labeller(self) -> Labeller:
        self._request, labeller = self._start()
        self._stats.model = self._request.artifact.model_id
        return labeller

    def _turn(self) -> None:
        self._tick()
        self._schedule.read_changes()
        if self._control.reload_requested:
            self._control.reload_requested = False
            if self._labeller_supervisor.reload():
                self._schedule.request()
        self._labeller_supervisor.restart_if_due()
        labeller = self._labeller_supervisor.labeller
        if labeller is None or self._clock() < self._schedule.due_s:
            return
        try:
            self._run_once(labeller)
        except (WorkerDiedError, ModelError, OSError) as error:
            self._schedule.request()
            self._labeller_supervisor.back_off(error)
        except LabelDirError as error:
            if self._schedule.is_first:
                raise
            self._schedule.postpone(_BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)])
            self._failures += 1
            self._stats.set_problem("table", str(error))

    def _run_once(self, labeller: Labeller) -> None:
        assert self._request is not None
        is_first, began_s = self._schedule.is_first, self._clock()
        # A fresh run keeps no rows: the second one would remove those of all files that did not settle just now.
        request = replace(self._request, fresh=self._request.fresh and is_first)
        with self._schedule.running(request) as hooks:
            hooks = replace(
                hooks, on_row=lambda _row, _kept: self._tick(), time_is_up=lambda: self._control.stop_requested
            )
            summary = run(request, hooks, labeller)
        self._schedule.complete(summary, self._clock() - began_s)
        self._failures = 0
        self._stats.set_problem("table", None)
        if summary.labelled:
            self._labeller_supervisor.reset_backoff()
        if is_first:
            self._sd_notify.send(READY=1)
        self._on_run(summary)

    def _tick(self) -> None:
        if self._clock() >= self._next_tick_s:
            self._next_tick_s = self._clock() + _TICK_S
            self._sd_notify.send(WATCHDOG=1, STATUS=self._stats.health)
            self._schedule.check()

    def _pause_s(self) -> float:
        run_s = math.inf if self._labeller_supervisor.labeller is None else self._schedule.due_s
        return min(self._next_tick_s, self._schedule.next_look_s(), run_s) - self._clock()
