"""Finds workers that will never answer, or that have grown: by the clock and by the state the kernel gives them.

A worker is late when it has been at one item for longer than the time limit. It is suspended when it is halted at two
ticks in succession: a shell halts a whole group of processes one by one, and continues it one by one. It has grown
when it is idle and its resident memory is past the bound; a worker that is busy is not interrupted for that.
While this process itself was suspended or the machine asleep, no answer could be taken, so afterwards all items start
anew for the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from models.system.process_state import is_alive, is_suspended, resident_bytes

# How often workers are inspected, and how long their callers wait for answers at a time.
TICK_S = 1.0
_ASLEEP_S = 5.0


class FaultKind(Enum):
    """What is wrong with a worker."""

    LATE = auto()
    SUSPENDED = auto()
    GROWN = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a worker, and the same in words."""

    kind: FaultKind
    reason: str


class Watchdog:
    """Inspects workers once a tick.

    `timeout_s` bounds the time for one item, `recycle_bytes` the resident memory of an idle worker; None: no bound.
    """

    def __init__(
        self,
        timeout_s: float | None = None,
        recycle_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s = timeout_s
        self._recycle_bytes = recycle_bytes
        self._clock = clock
        self._inspected_s = self._awake_since_s = clock()
        self._suspended: set[int] = set()

    def inspect(self, busy_since_s: Iterable[tuple[int, float | None]]) -> dict[int, Fault]:
        """Return the faults found by process number; none within a tick of the last inspection.

        `busy_since_s` yields each worker's process number and the time, by the clock, at which it was given its present
        item, None where it is idle.
        """
        now_s = self._clock()
        passed_s = now_s - self._inspected_s
        if passed_s < TICK_S:
            return {}
        self._inspected_s = now_s
        if passed_s > max(_ASLEEP_S, (self._timeout_s or 0) / 2):
            self._awake_since_s = now_s
        # The number of a process that has ended may already be another's.
        workers = {pid: since_s for pid, since_s in busy_since_s if is_alive(pid)}
        suspended = {pid for pid in workers if is_suspended(pid)}
        was_suspended, self._suspended = self._suspended, suspended
        faults = {pid: self._fault(pid, since_s, now_s) for pid, since_s in workers.items()}
        faults |= {
            pid: Fault(FaultKind.SUSPENDED, "suspended from outside (SIGSTOP)") for pid in suspended & was_suspended
        }
        return {pid: fault for pid, fault in faults.items() if fault}

    def _fault(self, pid: int, busy_since_s: float | None, now_s: float) -> Fault | None:
        if busy_since_s is not None:
            waited_s = now_s - max(busy_since_s, self._awake_since_s)
            if self._timeout_s is not None and waited_s > self._timeout_s:
                return Fault(FaultKind.LATE, f"no result within {self._timeout_s:g} s")
        elif self._recycle_bytes is not None and resident_bytes(pid) > self._recycle_bytes:
            return Fault(FaultKind.GROWN, f"grown past {self._recycle_bytes >> 20} MB")
        return None
