"""Finds workers that will never answer, or that have grown: by the clock and by the state the kernel gives them.

A worker is late when it has been at one item for longer than the time limit. It is suspended when it is halted at two
ticks in succession: a shell halts a whole group of processes one by one, and continues it one by one. It has grown
when it is idle and its resident memory is past the bound; a worker that is busy is not interrupted for that.
While this process itself was suspended or the machine asleep, no answer could be taken, so afterwards all items start
anew for the clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from enum import Enum, auto

from models.system.process_state import is_alive, is_suspended, resident_bytes

# How often workers are inspected, and how long their callers wait for answers at a time.
TICK_S = 1.0
_ASLEEP_S = 5.0


class Fault(Enum):
    """What is wrong with a worker."""

    LATE = auto()
    SUSPENDED = auto()
    GROWN = auto()


class Watchdog:
    """Inspects workers once a tick.

    `timeout_s` bounds the time for one item, `recycle_bytes` the resident memory of an idle worker.
    """

    def __init__(
        self, timeout_s: float = math.inf, recycle_bytes: float = math.inf, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._recycle_bytes = recycle_bytes
        self._inspected_s = self._awake_since_s = clock()
        self._suspended: set[int] = set()
        self._reasons = {
            Fault.LATE: f"no result within {timeout_s:g} s",
            Fault.SUSPENDED: "suspended from outside (SIGSTOP)",
            Fault.GROWN: f"grown past {recycle_bytes / (1 << 20):.0f} MB",
        }

    def inspect(self, busy_since_s: Iterable[tuple[int, float | None]]) -> dict[int, tuple[Fault, str]]:
        """Return the fault of each faulty worker, also in words, by process number; {} within a tick of the last time.

        `busy_since_s` yields each worker's process number and when, by `clock`, it was given its present item,
        None where it is idle.
        """
        now_s = self._clock()
        passed_s = now_s - self._inspected_s
        if passed_s < TICK_S:
            return {}
        self._inspected_s = now_s
        if passed_s > max(_ASLEEP_S, self._timeout_s / 2):
            self._awake_since_s = now_s
        # The number of a process that has ended may already be another's.
        workers = {pid: since_s for pid, since_s in busy_since_s if is_alive(pid)}
        suspended = {pid for pid in workers if is_suspended(pid)}
        was_suspended, self._suspended = self._suspended, suspended
        faults: dict[int, Fault] = {}
        for pid, since_s in workers.items():
            if pid in suspended & was_suspended:
                faults[pid] = Fault.SUSPENDED
            elif since_s is None:
                if resident_bytes(pid) > self._recycle_bytes:
                    faults[pid] = Fault.GROWN
            elif now_s - max(since_s, self._awake_since_s) > self._timeout_s:
                faults[pid] = Fault.LATE
        return {pid: (fault, self._reasons[fault]) for pid, fault in faults.items()}
