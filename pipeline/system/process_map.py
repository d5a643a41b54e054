"""Small jobs on untrusted files, done in processes that may crash or hang without harm to the others."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from models.system.parent_death import die_with_parent
from pipeline.system.child_process import kill, leave_signals_to_parent, starting_children

_MEMORY_BYTES = 4 << 30
_WAIT_S = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


def process_map(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int, timeout_s: float
) -> Iterator[tuple[Item, Result | None]]:
    """Yield each item with `function(item)` as they are finished; None where its process died or took `timeout_s`.

    `function` is of a module's top level and does not raise; items and results are small and can be pickled.
    """
    waiting = iter(items)
    workers: dict[Connection, _Worker[Item, Result]] = {}
    try:
        for item in waiting:
            worker = _Worker(function, item)
            workers[worker.connection] = worker
            if len(workers) == processes:
                break
        while workers:
            ready = wait(list(workers), _WAIT_S)
            late = [connection for connection, worker in workers.items() if worker.age_s > timeout_s]
            for connection in {*ready, *late}:
                worker = workers.pop(connection)  # type: ignore[call-overload]  # wait() is typed for sockets too
                done, result = worker.item, worker.result()
                following = next(waiting, None)
                if following is None:
                    worker.close()
                else:
                    if not worker.give(following):
                        worker.close()
                        worker = _Worker(function, following)
                    workers[worker.connection] = worker
                yield done, result
    finally:
        for worker in workers.values():
            worker.close()


class _Worker(Generic[Item, Result]):
    """One process with one item at a time."""

    def __init__(self, function: Callable[[Item], Result], item: Item) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        with starting_children():
            self._process = context.Process(target=_serve, args=(function, theirs, os.getpid()), daemon=True)
            self._process.start()
        theirs.close()
        self.give(item)

    @property
    def age_s(self) -> float:
        """How long it has been at its item."""
        return time.monotonic() - self._since_s

    def give(self, item: Item) -> bool:
        """Hand over the next item; False where the process is gone."""
        self.item = item
        self._since_s = time.monotonic()
        if self.connection.closed:
            return False
        try:
            self.connection.send(item)
        except OSError:
            return False
        return True

    def result(self) -> Result | None:
        """Take the answer if there is one; else end the process and return None."""
        try:
            if self.connection.poll():
                answer: Result = self.connection.recv()
                return answer
        except (EOFError, OSError):
            pass
        self.close()
        return None

    def close(self) -> None:
        """End the process at once; it holds nothing that must be kept."""
        if self._process.pid is not None:
            kill(self._process.pid)
        self._process.join()
        self.connection.close()


def _serve(function: Callable[[Item], Result], connection: Connection, parent_pid: int) -> None:
    die_with_parent(parent_pid)
    leave_signals_to_parent()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(function(item))
