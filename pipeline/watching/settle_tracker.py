"""Which files are being written, at rest, at work: pure state and an injected clock; others look at the disk.

Events and scans only say "look at this file"; what `stat` says then is noticed here. A file is handed out when its
size, time and inode have rested long enough, and a file that changes while it waits begins to rest anew.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from pipeline.records import FileRef

CAPACITY_FILES = 10_000
# A closed file is nearly always whole; the rest catches writers that close and open again.
_CLOSED_SHARE = 0.1


class Hint(IntEnum):
    """What is known beyond `stat`: written to somehow, closed by its writer, or renamed in whole."""

    CHANGED = 0
    CLOSED = 1
    ARRIVED = 2


@dataclass(frozen=True, slots=True)
class AtWork:
    """A file that was handed out: when its last change was noticed and which attempt this is, from 1."""

    ref: FileRef
    noticed_s: float
    attempt: int


@dataclass(slots=True)
class _Waiting:
    ref: FileRef
    first_noticed_s: float
    rests_since_s: float
    quiet_s: float
    attempt: int = 1
    is_ready: bool = False


class SettleTracker:
    """The files that still need a row, at most `capacity` of them.

    `settle_s` is how long a file must rest; a closed one a tenth of it, a renamed one not at all. All times are
    seconds of `clock`, which never goes back.
    """

    def __init__(self, settle_s: float, clock: Callable[[], float], capacity: int = CAPACITY_FILES) -> None:
        self._settle_s = settle_s
        self._clock = clock
        self._capacity = capacity
        self._waiting: dict[str, _Waiting] = {}
        self._at_work: dict[str, AtWork] = {}
        self._ready: deque[str] = deque()
        self._due: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._at_work)

    @property
    def room(self) -> int:
        """How many files that are not known yet would be taken."""
        return max(0, self._capacity - len(self._waiting))

    @property
    def ready_count(self) -> int:
        """About how many files have rested and wait to be handed out."""
        return len(self._ready)

    def oldest_age_s(self) -> float:
        """Return how long the file that has waited longest is known, 0 where none waits."""
        waiting = next(iter(self._waiting.values()), None)
        at_work = next(iter(self._at_work.values()), None)
        firsts = [waiting.first_noticed_s] if waiting else []
        firsts += [at_work.noticed_s] if at_work else []
        return self._clock() - min(firsts) if firsts else 0.0

    def notice(self, ref: FileRef, hint: Hint = Hint.CHANGED) -> bool:
        """Take what `stat` says of a file without a row; False where there is no room for it.

        A file at work is looked at by whoever took it, when its row is there.
        """
        now_s = self._clock()
        if ref.name in self._at_work:
            return True
        waiting = self._waiting.get(ref.name)
        if waiting is None:
            if not self.room:
                return False
            waiting = _Waiting(ref, now_s, now_s, self._settle_s)
            self._waiting[ref.name] = waiting
            self._schedule(waiting)
        elif waiting.ref != ref:
            waiting.ref, waiting.rests_since_s, waiting.quiet_s = ref, now_s, self._settle_s
            waiting.is_ready = False
            self._schedule(waiting)
        self._shorten(waiting, hint)
        self._promote(waiting, now_s)
        return True

    def gone(self, name: str) -> None:
        """Forget a file that was deleted or renamed away before it was handed out."""
        self._waiting.pop(name, None)

    def to_look_at(self) -> list[FileRef]:
        """Return the files whose rest is over, as last seen; each must now be noticed again, or be gone."""
        now_s = self._clock()
        due: list[FileRef] = []
        while self._due and self._due[0][0] <= now_s:
            waiting = self._waiting.get(heapq.heappop(self._due)[1])
            if waiting and not waiting.is_ready and now_s - waiting.rests_since_s >= waiting.quiet_s:
                due.append(waiting.ref)
        return due

    def next_due_s(self) -> float | None:
        """Return when to look at a file next, by the clock; None where nothing rests."""
        return self._due[0][0] if self._due else None

    def take(self) -> AtWork | None:
        """Hand out the file that has been ready longest; None where none is."""
        while self._ready:
            waiting = self._waiting.get(self._ready.popleft())
            if waiting is not None and waiting.is_ready:
                del self._waiting[waiting.ref.name]
                at_work = AtWork(waiting.ref, waiting.rests_since_s, waiting.attempt)
                self._at_work[waiting.ref.name] = at_work
                return at_work
        return None

    def finish(self, name: str) -> AtWork:
        """Note that a file handed out is done with, row or not; returns what was known of it."""
        return self._at_work.pop(name)

    def put_back(self, at_work: AtWork, ref: FileRef) -> None:
        """Let a file that was finished without a row rest and be handed out again, as its next attempt."""
        now_s = self._clock()
        waiting = _Waiting(ref, at_work.noticed_s, now_s, self._settle_s, at_work.attempt + 1)
        self._waiting[ref.name] = waiting
        self._schedule(waiting)

    def put_all_back(self) -> None:
        """Take back whatever is at work: the processes that had it are gone."""
        for at_work in list(self._at_work.values()):
            self.put_back(self.finish(at_work.ref.name), at_work.ref)

    def _shorten(self, waiting: _Waiting, hint: Hint) -> None:
        quiet_s = {Hint.CHANGED: 1.0, Hint.CLOSED: _CLOSED_SHARE, Hint.ARRIVED: 0.0}[hint] * self._settle_s
        if quiet_s < waiting.quiet_s:
            waiting.quiet_s = quiet_s
            self._schedule(waiting)

    def _promote(self, waiting: _Waiting, now_s: float) -> None:
        if not waiting.is_ready and now_s - waiting.rests_since_s >= waiting.quiet_s:
            waiting.is_ready = True
            self._ready.append(waiting.ref.name)

    def _schedule(self, waiting: _Waiting) -> None:
        heapq.heappush(self._due, (waiting.rests_since_s + waiting.quiet_s, waiting.ref.name))
