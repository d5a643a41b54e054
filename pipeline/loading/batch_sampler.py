"""The batch sampler: the walk, cut into Works as slots come free; it remembers which Works are unfinished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from pipeline.loading.decode_worker import Work
from pipeline.records import ErrorClass, FileRef, ItemError

# Workers also die of causes that are not the photo's, so one death proves nothing.
_MOST_CRASHES = {ErrorClass.WORKER_CRASH: 3, ErrorClass.TIMEOUT: 2}


class BatchSampler:
    """Yields Works; remembers which of them are unfinished, and which photos crashed workers."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._refs: Iterator[FileRef] = iter(())
        self._acquire_slot: Callable[[], int] = lambda: 0
        self._requeued: deque[Work] = deque()
        self._unfinished: dict[int, Work] = {}
        self._crashes: dict[tuple[str, ErrorClass], int] = {}
        self.failure: Exception | None = None

    def start_pass(self, refs: Iterator[FileRef], acquire_slot: Callable[[], int]) -> None:
        """Yield `refs` from now on, each Work for a slot that `acquire_slot` returns."""
        self._refs, self._acquire_slot = refs, acquire_slot
        self.failure = None

    def __iter__(self) -> BatchSampler:
        return self

    def __next__(self) -> Work:
        try:
            work = self._requeued.popleft() if self._requeued else self._next_work()
        except StopIteration:
            raise
        except Exception as error:
            # Raised through the loader, the error of the walk would pass for a crash of a worker.
            self.failure = error
            raise
        self._unfinished[work.slot] = work
        return work

    def _next_work(self) -> Work:
        refs = tuple(islice(self._refs, self._batch_size))
        if not refs:
            raise StopIteration
        return Work(self._acquire_slot(), refs, (None,) * len(refs))

    @property
    def has_unfinished(self) -> bool:
        """Whether a Work that was yielded is not finished."""
        return bool(self._unfinished)

    def finish(self, slot: int) -> tuple[FileRef, ...]:
        """Note that the Work of `slot` is finished, and return its files."""
        refs = self._unfinished.pop(slot).refs
        if self._crashes:
            # A later file may have the path of a finished one: the descriptor of an upload is used again.
            finished = {ref.path for ref in refs}
            self._crashes = {key: count for key, count in self._crashes.items() if key[0] not in finished}
        return refs

    def requeue_unfinished(self) -> None:
        """Yield the unfinished Works again, before any others."""
        self._requeued = deque(self._unfinished.values())

    def discard_pass(self) -> None:
        """Discard the unfinished Works and the rest of the walk."""
        self._unfinished.clear()
        self._requeued.clear()
        self._refs = iter(())

    def record_crash(self, slot: int, position: int, error_class: ErrorClass, reason: str) -> str | None:
        """Note that a photo crashed a worker; a photo with too many crashes gets an error and is not opened again.

        Returns the photo's path, None where the Work of `slot` is finished.
        """
        work = self._unfinished.get(slot)
        if work is None:
            return None
        path = work.refs[position].path
        crashes = self._crashes.get((path, error_class), 0) + 1
        self._crashes[path, error_class] = crashes
        if crashes >= _MOST_CRASHES[error_class]:
            del self._crashes[path, error_class]
            known_errors = list(work.known_errors)
            known_errors[position] = ItemError(error_class, reason)
            self._unfinished[slot] = Work(slot, work.refs, tuple(known_errors))
        return path
