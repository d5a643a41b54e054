"""The batch sampler of decoders: the walk itself, cut into Works as slots come free, and what has not come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from pipeline.loading.decode_worker import Work
from pipeline.records import ErrorClass, FileRef, ItemError

# Processes also die of causes that are not the photo's, so one death proves nothing.
_STRIKES = {ErrorClass.WORKER_CRASH: 3, ErrorClass.TIMEOUT: 2}


class BatchSampler:
    """Hands out Works and remembers them until they are returned; knows which photos cost processes."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._refs: Iterator[FileRef] = iter(())
        self._acquire_slot: Callable[[], int] = lambda: 0
        self._again: deque[Work] = deque()
        self._outstanding: dict[int, Work] = {}
        self._strikes: dict[tuple[str, ErrorClass], int] = {}
        self.failure: Exception | None = None

    def begin(self, refs: Iterator[FileRef], acquire_slot: Callable[[], int]) -> None:
        """Hand out `refs` from now on, each Work into a slot that `acquire_slot` returns."""
        self._refs, self._acquire_slot = refs, acquire_slot
        self.failure = None

    def __iter__(self) -> BatchSampler:
        return self

    def __next__(self) -> Work:
        try:
            work = self._again.popleft() if self._again else self._cut()
        except StopIteration:
            raise
        except Exception as error:
            # It passes through the decoders, where it must not be taken for a failure of their own.
            self.failure = error
            raise
        self._outstanding[work.slot] = work
        return work

    def _cut(self) -> Work:
        refs = tuple(islice(self._refs, self._batch_size))
        if not refs:
            raise StopIteration
        return Work(self._acquire_slot(), refs, (None,) * len(refs))

    @property
    def is_waiting(self) -> bool:
        """Whether a Work has not been returned yet."""
        return bool(self._outstanding)

    def returned(self, slot: int) -> tuple[FileRef, ...]:
        """Take note that the Work of `slot` is done, and return its files."""
        return self._outstanding.pop(slot).refs

    def hand_out_again(self) -> None:
        """Begin with the Works that were handed out and not returned."""
        self._again = deque(self._outstanding.values())

    def forget(self) -> None:
        """Drop what is handed out and what is left."""
        self._outstanding.clear()
        self._again.clear()
        self._refs = iter(())

    def strike(self, slot: int, position: int, error_class: ErrorClass, reason: str) -> str | None:
        """Note that a photo cost a process; past its limit it gets its error row without being opened again.

        Returns the photo's path, None where the slot's Work has come back.
        """
        work = self._outstanding.get(slot)
        if work is None:
            return None
        path = work.refs[position].path
        strikes = self._strikes.get((path, error_class), 0) + 1
        self._strikes[path, error_class] = strikes
        if strikes >= _STRIKES[error_class]:
            del self._strikes[path, error_class]
            verdicts = list(work.verdicts)
            verdicts[position] = ItemError(error_class, reason)
            self._outstanding[slot] = Work(slot, work.refs, tuple(verdicts))
        return path
