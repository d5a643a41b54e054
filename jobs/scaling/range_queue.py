"""Which range a node gets next: each is labelled once, and again where its node failed or has been silent too long."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.scaling.range_plan import PlannedRange
from pipeline.errors import ExitCode

MOST_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a range, or a node, failed: a sentence, the exit code of a command that ends so, and a bug's traceback."""

    reason: str
    exit_code: int = ExitCode.BUG
    trace: str = ""


class RangeQueue:
    """Ranges on their way to nodes; a range is given out at most `MOST_ATTEMPTS` times, one after or beside another."""

    def __init__(self, ranges: Sequence[PlannedRange]) -> None:
        self._unfinished = {planned.index: planned for planned in ranges}
        self._waiting = deque(self._unfinished)
        self._attempts: Counter[int] = Counter()
        self._holders: dict[int, set[str]] = {index: set() for index in self._unfinished}
        self._late: set[tuple[int, str]] = set()
        self.given_up: dict[int, Failure] = {}

    @property
    def is_finished(self) -> bool:
        """Whether each range is done or given up."""
        return not self._unfinished

    def take(self, node: str) -> PlannedRange | None:
        """Give the next range to a node; None while there is none."""
        if not self._waiting:
            return None
        index = self._waiting.popleft()
        self._attempts[index] += 1
        self._holders[index].add(node)
        # A node that has been late with a range may be late with it again.
        self._late.discard((index, node))
        return self._unfinished[index]

    def note_done(self, index: int) -> bool:
        """Take note that a range is done; False where another node was first."""
        if self._unfinished.pop(index, None) is None:
            return False
        if index in self._waiting:
            self._waiting.remove(index)
        return True

    def note_failed(self, index: int, node: str, failure: Failure) -> None:
        """Let another node try a range that this one failed at, unless another has it already or too many failed."""
        self._holders[index].discard(node)
        if index not in self._unfinished or index in self._waiting or self._holders[index]:
            return
        if self._attempts[index] < MOST_ATTEMPTS:
            self._waiting.append(index)
        else:
            self.given_up[index] = failure
            del self._unfinished[index]

    def note_late(self, index: int, node: str) -> bool:
        """Let another node begin a range, too, whose node is silent; False where this does not change anything."""
        is_known = (index, node) in self._late
        self._late.add((index, node))
        # It may be silent for ever, and then must not keep the range from others.
        self._holders[index].discard(node)
        if is_known or index not in self._unfinished or index in self._waiting:
            return False
        if self._attempts[index] >= MOST_ATTEMPTS:
            return False
        self._waiting.appendleft(index)
        return True
