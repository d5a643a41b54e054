"""The loop of `label-dir --watch`: the one table stays the truth about the folder, run by run, with one labeller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import InputMissingError, LabelDirError
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.sd_notify import SdNotify
from pipeline.records import FileRef, Row, RunSummary
from pipeline.run import Hooks, RunRequest, run
from pipeline.watching.control import StopRequests, Wakeup
from pipeline.watching.event_supervisor import EventSupervisor, WatchIntervals
from pipeline.watching.file_events import FileEvents
from pipeline.watching.settle_tracker import SettleTracker
from pipeline.watching.watched_folder import WatchedFolder

logger = logging.getLogger(__name__)

_TICK_S = 1.0
_BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True)
class TableIntervals:
    """`flush_s`: publish at most this often; `settle_s`: how long a new photo must rest; `sight`: how it is watched."""

    flush_s: float
    settle_s: float
    sight: WatchIntervals


class TableWatch:
    """Runs until it is told to stop. `start` gives the run to repeat and its labeller, anew after SIGHUP."""

    def __init__(
        self,
        inbox: WatchedFolder,
        start: Callable[[], tuple[RunRequest, Labeller]],
        rhythm: TableIntervals,
        requests: StopRequests,
        wakeup: Wakeup,
        on_run: Callable[[RunSummary], None],
        clock: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._start = start
        self._rhythm = rhythm
        self._requests = requests
        self._wakeup = wakeup
        self._on_run = on_run
        self._clock = clock
        self._stats = DaemonStats()
        self._sd_notify = SdNotify()
        self._tracker = SettleTracker(rhythm.settle_s, clock)
        self._at_rest: dict[str, FileRef] | None = None
        self._failures = 0
        self._next_tick_s = clock()
        self._next_run_s = clock()
        self._last_run_s = clock()
        self._interval_s = rhythm.sight.poll_s or rhythm.sight.rescan_s
        self._event_supervisor = EventSupervisor(inbox, self, self, rhythm.sight, self._stats, wakeup.ring, clock)
        # What the lookout asks of whoever lists and hears.
        self.watcher: FileEvents | None = None
        self.completed = 0
        self.folders = 0
        self.error: str | None = None

    def run(self) -> None:
        """Bring the table up to date, and again whenever the folder changed.

        Raises:
            LabelDirError: the first run failed; later ones are tried again.
            ModelError: the model cannot be loaded.
        """
        self._event_supervisor.enter()
        labeller: Labeller | None = None
        try:
            # While this process has one thread and can fork the one that decodes; threads begin with the watching.
            request, labeller = self._start()
            self._event_supervisor.begin()
            self._requests.is_running = True
            self._run_once(request, labeller)
            self._sd_notify.tell(READY=1)
            while not self._requests.stop:
                if self._requests.reload:
                    self._requests.reload = False
                    labeller.close()
                    request, labeller = self._start()
                    self.request()
                self._turn(request, labeller)
                self._wakeup.wait(self._pause_s())
        finally:
            if labeller is not None:
                labeller.close()
            self._event_supervisor.end()

    def request(self) -> None:
        """Run again as soon as possible."""
        self._next_run_s = min(self._next_run_s, self._clock())

    def cancel(self) -> None:
        """Nothing is under way between turns."""

    def set_interval(self, interval_s: float) -> None:
        """Run at least this often from now on."""
        self._interval_s = interval_s
        self._next_run_s = min(self._next_run_s, self._clock() + interval_s)

    def _turn(self, request: RunRequest, labeller: Labeller) -> None:
        self._tick()
        self._hear()
        if self._event_supervisor.is_inbox_away or self._clock() < self._next_run_s:
            return
        try:
            self._run_once(request, labeller)
            self._failures = 0
            self._stats.trouble("table", None)
        except LabelDirError as error:
            self._next_run_s = self._clock() + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
            self._failures += 1
            self._stats.trouble("table", str(error))

    def _run_once(self, request: RunRequest, labeller: Labeller) -> None:
        """Run with what rests now; the very first time with everything, as a run without `--watch` does."""
        is_first = self.completed == 0
        taken = [] if is_first else [at_work.ref for at_work in iter(self._tracker.take, None)]
        self._at_rest = None if is_first else {ref.name: ref for ref in taken}
        began_s = self._clock()
        try:
            hooks = Hooks(
                on_row=self._on_row,
                time_is_up=lambda: self._requests.stop,
                is_at_rest=self._is_at_rest,
                on_walked=self._refuse_an_empty_mount_point,
            )
            summary = run(request, hooks, labeller)
        finally:
            for ref in taken:
                self._tracker.finish(ref.name)
        self.completed += 1
        now_s = self._clock()
        is_quiet = not (summary.labelled or summary.copied or summary.failed or summary.removed)
        # However large the folder, looking for nothing takes a tenth of the time at most.
        self._next_run_s = now_s + max(self._interval_s, 10 * (now_s - began_s) if is_quiet else 0.0)
        self._last_run_s = now_s
        self._on_run(summary)

    def _is_at_rest(self, ref: FileRef) -> bool:
        if self._at_rest is None or self._at_rest.get(ref.name) == ref:
            return True
        return not self._tracker.notice(ref)

    def _refuse_an_empty_mount_point(self) -> None:
        if reason := self._inbox.absent_because():
            raise InputMissingError(f"{self._inbox.folder}: {reason}")

    def _hear(self) -> None:
        hints = self.watcher.take() if self.watcher is not None else None
        is_changed = bool(hints and (hints.scan or any(map(self._inbox.wants_folder, hints.folders))))
        for path, hint in hints.files.items() if hints else ():
            ref = self._inbox.look(path)
            if ref is not None:
                is_changed |= not self._tracker.notice(ref, hint)
            elif self._inbox.wants(path):
                self._tracker.gone(self._inbox.name_of(path))
                is_changed = True
        for known in self._tracker.to_look_at():
            now = self._inbox.look(known.path)
            if now is None:
                self._tracker.gone(known.name)
            else:
                self._tracker.notice(now)
        if is_changed or self._tracker.ready_count:
            self._next_run_s = min(self._next_run_s, self._last_run_s + self._rhythm.flush_s)

    def _on_row(self, _row: Row, _kept: int) -> None:
        self._tick()

    def _tick(self) -> None:
        if self._clock() >= self._next_tick_s:
            self._next_tick_s = self._clock() + _TICK_S
            self._sd_notify.tell(WATCHDOG=1, STATUS=self._stats.health)
            self._event_supervisor.check()

    def _pause_s(self) -> float:
        due = [self._next_tick_s, self._tracker.next_due_s()]
        if not self._event_supervisor.is_inbox_away:
            due.append(self._next_run_s)
        return min(due_s for due_s in due if due_s is not None) - self._clock()
