"""Which files are still being written, settled, or in progress: pure state with an injected clock.

Events and scans only name a file to look at; the caller passes in what `stat` says of the file. A file has four states:

- **unknown**: no row is due for the file. `notice` makes the file *waiting*.
- **waiting**: the file may still be written. If `notice` sees another size, time or inode, the wait begins again. A
  file that did not change during its wait (shorter after a close, none after a rename) becomes *ready*.
- **ready**: the file is in a queue. A change makes it *waiting* again; `pop_ready` makes it *in progress*.
- **in progress**: the labeller has the file. `finish` makes it *unknown*, with a row or without; `requeue` makes a
  finished file *waiting* again, as its next attempt.

`forget` makes a waiting or ready file *unknown*. Files in progress are not noticed: the caller compares the file with
its row at the end.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from pipeline.records import FileRef

CAPACITY_FILES = 10_000
# A closed file is nearly always complete; the rest of the wait covers writers that close and open it again.
_CLOSED_SHARE = 0.1


class Hint(IntEnum):
    """What an event tells beyond `stat`: the file changed somehow, was closed by its writer, or was renamed whole."""

    CHANGED = 0
    CLOSED = 1
    RENAMED = 2


@dataclass(frozen=True, slots=True)
class InProgress:
    """A file that was handed out: when its last change was noticed, and the number of this attempt, from 1."""

    ref: FileRef
    noticed_s: float
    attempt: int


@dataclass(slots=True)
class _Waiting:
    ref: FileRef
    first_noticed_s: float
    unchanged_since_s: float
    settle_s: float
    attempt: int = 1
    is_ready: bool = False


class SettleTracker:
    """The files that still need a row, at most `capacity` of them waiting.

    `settle_s` is how long a file must stay unchanged; a tenth of it after a close, no time after a rename. All times
    are seconds of `clock`, which never goes back.
    """

    def __init__(self, settle_s: float, clock: Callable[[], float], capacity: int = CAPACITY_FILES) -> None:
        self._settle_s = settle_s
        self._clock = clock
        self._capacity = capacity
        self._waiting: dict[str, _Waiting] = {}
        self._in_progress: dict[str, InProgress] = {}
        self._ready: deque[str] = deque()
        self._due: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._in_progress)

    @property
    def room(self) -> int:
        """How many unknown files `notice` still accepts."""
        return max(0, self._capacity - len(self._waiting))

    @property
    def ready_count(self) -> int:
        """How many files are in the queue of ready ones, some perhaps changed or forgotten since."""
        return len(self._ready)

    def oldest_age_s(self) -> float:
        """Return how long the file that has waited longest is known, 0 if no file waits."""
        now_s = self._clock()
        waiting_s = next((file.first_noticed_s for file in self._waiting.values()), now_s)
        in_progress_s = next((file.noticed_s for file in self._in_progress.values()), now_s)
        return now_s - min(waiting_s, in_progress_s)

    def notice(self, ref: FileRef, hint: Hint = Hint.CHANGED) -> bool:
        """Take what `stat` says of a file without a row; False if there is no room for the file."""
        now_s = self._clock()
        if ref.name in self._in_progress:
            return True
        waiting = self._waiting.get(ref.name)
        if waiting is None:
            if not self.room:
                return False
            waiting = _Waiting(ref, now_s, now_s, self._settle_s)
            self._waiting[ref.name] = waiting
            self._schedule(waiting)
        elif waiting.ref != ref:
            waiting.ref, waiting.unchanged_since_s, waiting.settle_s = ref, now_s, self._settle_s
            waiting.is_ready = False
            self._schedule(waiting)
        self._shorten_wait(waiting, hint)
        if not waiting.is_ready and self._is_settled(waiting, now_s):
            waiting.is_ready = True
            self._ready.append(waiting.ref.name)
        return True

    def forget(self, name: str) -> None:
        """Drop a file that was deleted or renamed away before it was handed out."""
        self._waiting.pop(name, None)

    def recheck(self, stat: Callable[[str], FileRef | None]) -> None:
        """Look by `stat` at every path whose wait is over; `stat` returns None for a file that is gone."""
        now_s = self._clock()
        due: list[FileRef] = []
        while self._due and self._due[0][0] <= now_s:
            waiting = self._waiting.get(heapq.heappop(self._due)[1])
            if waiting and not waiting.is_ready and self._is_settled(waiting, now_s):
                due.append(waiting.ref)
        for known in due:
            ref = stat(known.path)
            if ref is None:
                self.forget(known.name)
            else:
                self.notice(ref)

    def next_due_s(self) -> float:
        """Return the time of the next `recheck`, infinity if no file waits."""
        return self._due[0][0] if self._due else math.inf

    def pop_ready(self) -> InProgress | None:
        """Hand out the file that has been ready longest; None if no file is ready."""
        while self._ready:
            waiting = self._waiting.get(self._ready.popleft())
            if waiting is not None and waiting.is_ready:
                del self._waiting[waiting.ref.name]
                in_progress = InProgress(waiting.ref, waiting.unchanged_since_s, waiting.attempt)
                self._in_progress[waiting.ref.name] = in_progress
                return in_progress
        return None

    def finish(self, name: str) -> InProgress:
        """End the progress of a file, with a row or without; returns what was known of the file."""
        return self._in_progress.pop(name)

    def requeue(self, finished: InProgress, ref: FileRef) -> None:
        """Let a file that was finished without a row wait again, as its next attempt."""
        now_s = self._clock()
        waiting = _Waiting(ref, finished.noticed_s, now_s, self._settle_s, finished.attempt + 1)
        self._waiting[ref.name] = waiting
        self._schedule(waiting)

    def requeue_all(self) -> None:
        """Requeue every file in progress: the processes that had them are gone."""
        for in_progress in list(self._in_progress.values()):
            self.requeue(self.finish(in_progress.ref.name), in_progress.ref)

    def _shorten_wait(self, waiting: _Waiting, hint: Hint) -> None:
        settle_s = {Hint.CHANGED: 1.0, Hint.CLOSED: _CLOSED_SHARE, Hint.RENAMED: 0.0}[hint] * self._settle_s
        if settle_s < waiting.settle_s:
            waiting.settle_s = settle_s
            self._schedule(waiting)

    @staticmethod
    def _is_settled(waiting: _Waiting, now_s: float) -> bool:
        return now_s - waiting.unchanged_since_s >= waiting.settle_s

    def _schedule(self, waiting: _Waiting) -> None:
        heapq.heappush(self._due, (waiting.unchanged_since_s + waiting.settle_s, waiting.ref.name))
