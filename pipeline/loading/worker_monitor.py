"""Decode processes as their parent sees them: who hangs, who is gone and why, by the board that they write."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess

import numpy as np

from pipeline.loading.decode_worker import BOARD_PID, BOARD_POSITION, BOARD_SINCE_NS, IDLE
from pipeline.records import ErrorClass
from pipeline.system.child_process import cause_of_end, is_alive, is_stopped, kill, resident_bytes
from pipeline.system.shared_array import SharedArray

logger = logging.getLogger(__name__)

TICK_S = 1.0
_AWAY_S = 5.0
_END_WAIT_S = 5.0
_ASK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class LostPhoto:
    """A process was lost while it worked on photo `position` of slot `slot`."""

    slot: int
    position: int
    error_class: ErrorClass
    reason: str


class WorkerMonitor:
    """Watches the processes that the fork server started.

    `timeout_s` bounds one photo, `recycle_bytes` the resident memory of a process that has nothing to do.
    """

    def __init__(self, workers: int, timeout_s: float, recycle_bytes: int) -> None:
        self.board = SharedArray((workers, 4), np.int64)
        self._clear_board()
        self._timeout_s = timeout_s
        self._recycle_bytes = recycle_bytes
        self._looked_at_s = time.monotonic()
        self._asked_at_s = 0.0
        self._stopped: set[int] = set()
        self._ended_by_us: set[int] = set()
        self._processes: list[ForkServerProcess] = []

    def started(self) -> None:
        """Take note of the processes that have been started."""
        # Also those that have not reached the board yet; nothing else here starts processes by the fork server.
        self._processes = [
            process for process in multiprocessing.active_children() if isinstance(process, ForkServerProcess)
        ]

    def look(self) -> list[LostPhoto]:
        """Once a tick, kill what hangs, is stopped or has grown; return which photos it hung with."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s < TICK_S:
            return []
        if now_s - self._looked_at_s > max(_AWAY_S, self._timeout_s / 2):
            # This process itself was stopped or asleep; what waited for it is not late.
            self.board.array[:, BOARD_SINCE_NS] = time.monotonic_ns()
        self._looked_at_s = now_s
        stopped = {pid for pid in self._pids() if is_stopped(pid)}
        still_stopped, self._stopped = stopped & self._stopped, stopped
        for pid in still_stopped:
            logger.warning("a decode process was stopped from outside; it is killed")
            self._end(pid)
        return [loss for row in range(len(self.board.array)) for loss in self._look_at(row)]

    def is_someone_gone(self) -> bool:
        """Tell whether a process has ended; True comes up to 0.1 s late, because many processes take long to ask."""
        now_s = time.monotonic()
        if now_s - self._asked_at_s < _ASK_AGAIN_S:
            return False
        self._asked_at_s = now_s
        return any(not is_alive(pid) for pid in self._pids())

    def losses(self) -> Iterator[LostPhoto]:
        """Yield the photos that dead processes were working on."""
        for pid, slot, position, _ in self.board.array.tolist():
            if not pid or is_alive(pid):
                continue
            cause = self._cause(pid)
            if pid not in self._ended_by_us:
                logger.warning("a decode process died (%s); it is restarted", cause)
            if position != IDLE:
                yield LostPhoto(slot, position, ErrorClass.WORKER_CRASH, f"decode processes died with it ({cause})")

    def end_all(self) -> None:
        """Kill the processes and wait until they are gone."""
        self.started()
        kill_and_wait(self._pids())
        self._processes = []
        self._ended_by_us.clear()
        self._clear_board()

    def _clear_board(self) -> None:
        """Have nobody on the board but those who will write themselves there."""
        self.board.array[:, BOARD_PID] = 0
        self.board.array[:, BOARD_POSITION] = IDLE

    def _end(self, pid: int) -> None:
        self._ended_by_us.add(pid)
        kill_and_wait([pid])

    def _pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid]

    def _look_at(self, row: int) -> Iterator[LostPhoto]:
        pid, slot, position, since_ns = (int(value) for value in self.board.array[row])
        if not pid or not is_alive(pid):
            return
        if position != IDLE and time.monotonic_ns() - since_ns > self._timeout_s * 1e9:
            logger.warning("a photo takes longer than %g s to decode; its process is killed", self._timeout_s)
            yield LostPhoto(slot, position, ErrorClass.TIMEOUT, f"no result within {self._timeout_s:g} s")
        elif position == IDLE and resident_bytes(pid) > self._recycle_bytes:
            logger.info("a decode process has grown past %d MB; it is replaced", self._recycle_bytes >> 20)
        else:
            return
        self.board.array[row, BOARD_POSITION] = IDLE
        self._end(pid)

    def _cause(self, pid: int) -> str:
        for process in self._processes:
            if process.pid == pid:
                # Its exit code comes by way of the fork server, a moment later.
                process.join(1.0)
                return cause_of_end(process.exitcode)
        return "ended"


def kill_and_wait(pids: list[int]) -> None:
    """End processes at once and return when they are gone."""
    for pid in pids:
        kill(pid)
    until_s = time.monotonic() + _END_WAIT_S
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until_s:
        time.sleep(0.002)
