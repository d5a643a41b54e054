"""Decode workers as their parent sees them, whichever loader started them: by the board, to which they write.

A worker writes to its row of the board which file it is decoding and since when. The row of a worker that has ended
tells which photo crashed it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import numpy as np

from models.system.process_state import cause_of_end, is_alive, kill_and_wait
from models.system.watchdog import Fault, Watchdog
from pipeline.loading.decode_worker import BOARD_PID, BOARD_POSITION, FETCHING, IDLE
from pipeline.records import ErrorClass
from pipeline.system.shared_array import SharedArray

logger = logging.getLogger(__name__)

_ASK_AGAIN_S = 0.1
_EXIT_CODE_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class CrashedPhoto:
    """A worker ended while it decoded photo `position` of slot `slot`."""

    slot: int
    position: int
    error_class: ErrorClass
    reason: str


class WorkerMonitor:
    """Watches the decode workers of one loader.

    `timeout_s` bounds one photo, `recycle_bytes` the resident memory of an idle worker.
    """

    def __init__(self, workers: int, timeout_s: float, recycle_bytes: int) -> None:
        self.board = SharedArray((workers, 4), np.int64)
        self._clear_board()
        self._watchdog = Watchdog(timeout_s, recycle_bytes)
        self._asked_s = 0.0
        self._killed: dict[int, str] = {}
        self._processes: list[BaseProcess] = []

    def note_started(self, processes: Sequence[BaseProcess]) -> None:
        """Watch the workers that have been started, also those that have not written to the board yet."""
        self._processes = list(processes)

    def kill_faulty(self) -> list[CrashedPhoto]:
        """Once a tick, kill workers that are late, suspended or grown; return the photos that took too long."""
        crashed: list[CrashedPhoto] = []
        rows = {pid: row for row, pid in enumerate(self.board.array[:, BOARD_PID].tolist())}
        for pid, (fault, reason) in self._watchdog.inspect(self._busy_since_s()).items():
            level = logging.INFO if fault is Fault.GROWN else logging.WARNING
            logger.log(level, "a decode worker is killed: %s", reason)
            self._killed[pid] = reason
            row = rows.get(pid)
            _, slot, position, _ = (0, 0, IDLE, 0) if row is None else self.board.array[row].tolist()
            kill_and_wait([pid])
            if fault is Fault.LATE:
                crashed.append(CrashedPhoto(slot, position, ErrorClass.TIMEOUT, reason))
            if fault is not Fault.SUSPENDED and row is not None:
                # A photo that it began since it was inspected did not crash it.
                self.board.array[row, BOARD_POSITION] = IDLE
        return crashed

    def has_dead_worker(self) -> bool:
        """Tell whether a worker has ended; True comes up to 0.1 s late, because asking many workers takes long."""
        now_s = time.monotonic()
        if now_s - self._asked_s < _ASK_AGAIN_S:
            return False
        self._asked_s = now_s
        return any(not is_alive(pid) for pid in self._pids())

    def has_died_while_fetching(self) -> bool:
        """Tell whether a worker that has ended was at work and waited for a photo to arrive."""
        board = self.board.array.tolist()
        return any(pid and position == FETCHING and not is_alive(pid) for pid, _, position, _ in board)

    def crashed_photos(self) -> Iterator[CrashedPhoto]:
        """Yield the photos that workers were decoding when they ended."""
        for pid, slot, position, _ in self.board.array.tolist():
            if not pid or is_alive(pid):
                continue
            cause = self._cause(pid)
            if pid not in self._killed:
                logger.warning("a decode worker died (%s); it is restarted", cause)
            if position >= 0:
                yield CrashedPhoto(slot, position, ErrorClass.WORKER_CRASH, f"decode workers died with it ({cause})")

    def kill_all(self, processes: Sequence[BaseProcess]) -> None:
        """Kill the workers and wait until they are gone."""
        self.note_started(processes)
        kill_and_wait(self._pids())
        self._processes = []
        self._killed.clear()
        self._clear_board()

    def _clear_board(self) -> None:
        self.board.array[:, BOARD_PID] = 0
        self.board.array[:, BOARD_POSITION] = IDLE

    def _pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid]

    def _busy_since_s(self) -> Iterator[tuple[int, float | None]]:
        rows = {pid: (position, since_ns) for pid, _, position, since_ns in self.board.array.tolist()}
        for pid in self._pids():
            position, since_ns = rows.get(pid, (IDLE, 0))
            yield pid, None if position < 0 else since_ns / 1e9

    def _cause(self, pid: int) -> str:
        if pid in self._killed:
            return self._killed[pid]
        for process in self._processes:
            if process.pid == pid:
                # Its exit code comes by way of the fork server, a moment later.
                process.join(_EXIT_CODE_WAIT_S)
                return cause_of_end(process.exitcode)
        return "ended"
