"""Single calls on untrusted files, in processes that are kept ready and may crash or hang without harm to others."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from models.system.worker import WORKER_GONE, Worker, start_worker
from pipeline.system.process_map import WORKER_OPTIONS, serve_items

Item = TypeVar("Item")
Result = TypeVar("Result")

# Starting a worker changes this process's environment for a moment.
_starting = threading.Lock()


class ProcessCalls(Generic[Item, Result]):
    """Calls `function`, from any thread, in one of as many processes; a call waits where all of them are busy.

    `function` is of a module's top level and does not raise; items and results are small and can be pickled.

    Raises:
        OSError: the system does not let a process start.
    """

    def __init__(self, function: Callable[[Item], Result], processes: int, timeout_s: float) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self._idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        self._count = processes
        for _ in range(processes):
            self._idle.put(self._start())

    def __call__(self, item: Item) -> Result | None:
        """Return `function(item)`; None where its process died, took too long, or could not be started."""
        worker = self._idle.get()
        try:
            result, worker = self._answer(item, worker)
        finally:
            self._idle.put(worker)
        return result

    def close(self) -> None:
        """End the processes; calls at work end first."""
        for _ in range(self._count):
            worker = self._idle.get()
            if worker is not None:
                worker.end()

    def _answer(self, item: Item, worker: Worker | None) -> tuple[Result | None, Worker | None]:
        """Return the answer, and the worker for the next call; None for a worker that has ended."""
        with contextlib.suppress(*WORKER_GONE):
            worker = self._with_item(item, worker)
            if worker.connection.poll(self._timeout_s):
                return worker.connection.recv(), worker
        if worker is not None:
            worker.end()
        return None, None

    def _with_item(self, item: Item, worker: Worker | None) -> Worker:
        """Give `item` to `worker`, or to a new one: a worker that ended while it was idle says nothing of the item."""
        if worker is not None:
            try:
                worker.connection.send(item)
                return worker
            except WORKER_GONE:
                worker.end()
        worker = self._start()
        worker.connection.send(item)
        return worker

    def _start(self) -> Worker:
        with _starting:
            return start_worker(serve_items, WORKER_OPTIONS, self._function)
