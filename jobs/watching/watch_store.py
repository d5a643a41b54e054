"""The loop of `label-dir --watch` for an object store: one run after the other, each of which lists the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.errors import ModelError
from pipeline.errors import LabelDirError, WorkerDiedError
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.sd_notify import SdNotify
from pipeline.records import RunSummary
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest
from pipeline.watching.control import LoopControl
from pipeline.watching.labeller_supervisor import LabellerSupervisor

_TICK_S = 1.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)


class StoreWatch:
    """Runs until a stop is requested. `start` returns the run to repeat and its labeller, again after a reload."""

    def __init__(
        self,
        start: Callable[[], tuple[RunRequest, Labeller]],
        poll_s: float,
        control: LoopControl,
        on_run: Callable[[RunSummary], None],
        clock: Callable[[], float],
    ) -> None:
        self._start = start
        self._poll_s = poll_s
        self._control = control
        self._on_run = on_run
        self._clock = clock
        self._request: RunRequest | None = None
        self._stats = DaemonStats()
        self._sd_notify = SdNotify()
        self._labeller_supervisor = LabellerSupervisor(self._start_labeller, self._stats, clock)
        self._due_s = self._next_tick_s = clock()
        self._runs = 0
        self._failures = 0

    def run(self) -> None:
        """Bring the table up to date, and again every `poll_s` seconds.

        Raises:
            LabelDirError: the first run failed for another reason than its workers; later runs are retried.
            LabelDirError: the model cannot be loaded at the start.
        """
        try:
            self._labeller_supervisor.start()
            self._control.is_running = True
            while not self._control.stop_requested:
                self._turn()
                self._control.wait(min(self._next_tick_s, self._due_s) - self._clock())
        finally:
            self._labeller_supervisor.close()

    def _start_labeller(self) -> Labeller:
        self._request, labeller = self._start()
        self._stats.model = self._request.artifact.model_id
        return labeller

    def _turn(self) -> None:
        self._tick()
        if self._control.reload_requested:
            self._control.reload_requested = False
            if self._labeller_supervisor.reload():
                self._due_s = self._clock()
        self._labeller_supervisor.restart_if_due()
        labeller = self._labeller_supervisor.labeller
        if labeller is None:
            self._due_s = max(self._due_s, self._next_tick_s)
            return
        if self._clock() < self._due_s:
            return
        self._due_s = self._clock() + self._poll_s
        try:
            self._run_once(labeller)
        except (WorkerDiedError, ModelError, OSError) as error:
            self._due_s = self._clock()
            self._labeller_supervisor.back_off(error)
        except LabelDirError as error:
            if not self._runs:
                raise
            self._due_s = self._clock() + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
            self._failures += 1
            self._stats.set_problem("table", str(error))

    def _run_once(self, labeller: Labeller) -> None:
        assert self._request is not None
        hooks = Hooks(on_row=lambda _row, _kept: self._tick(), time_is_up=lambda: self._control.stop_requested)
        # A fresh run keeps no rows: a second one would label everything again.
        summary = run(replace(self._request, fresh=self._request.fresh and not self._runs), hooks, labeller)
        self._runs += 1
        self._failures = 0
        self._stats.set_problem("table", None)
        if summary.labelled:
            self._labeller_supervisor.reset_backoff()
        if self._runs == 1:
            self._sd_notify.send(READY=1)
        self._on_run(summary)

    def _tick(self) -> None:
        if self._clock() >= self._next_tick_s:
            self._next_tick_s = self._clock() + _TICK_S
            self._sd_notify.send(WATCHDOG=1, STATUS=self._stats.health)
