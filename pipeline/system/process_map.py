"""Small jobs on untrusted files, done in processes that may crash or hang without harm to the others."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from models.system.watchdog import TICK_S, Watchdog
from models.system.worker import WORKER_GONE, Worker, WorkerOptions, start_worker

WORKER_OPTIONS = WorkerOptions(memory_bytes=4 << 30)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Task(Generic[Item]):
    """An item, the worker that has it, and since when."""

    worker: Worker
    item: Item
    since_s: float


def process_map(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int, timeout_s: float
) -> Generator[tuple[Item, Result | None]]:
    """Yield each item with `function(item)` as they are finished; None where its process died or took `timeout_s`.

    `function` is of a module's top level and does not raise; items and results are small and can be pickled.

    Raises:
        OSError: the system does not let a process start.
    """
    waiting = iter(items)
    watchdog = Watchdog(timeout_s)
    tasks: dict[Connection, _Task[Item]] = {}
    try:
        for item in islice(waiting, processes):
            task = _hand_out(function, item, None)
            tasks[task.worker.connection] = task
        while tasks:
            answered = wait(list(tasks), TICK_S)
            faulty = watchdog.inspect((task.worker.pid, task.since_s) for task in tasks.values())
            for connection, done in list(tasks.items()):
                if connection not in answered and done.worker.pid not in faulty:
                    continue
                del tasks[connection]
                result, worker = _take(done.worker, connection in answered)
                for item in islice(waiting, 1):
                    task = _hand_out(function, item, worker)
                    tasks[task.worker.connection], worker = task, None
                if worker is not None:
                    worker.end()
                yield done.item, result
    finally:
        for task in tasks.values():
            task.worker.end()


def _hand_out(function: Callable[[Item], object], item: Item, worker: Worker | None) -> _Task[Item]:
    """Give `item` to `worker`, to a new worker where there is none or it has ended meanwhile."""
    if worker is not None:
        try:
            worker.connection.send(item)
            return _Task(worker, item, time.monotonic())
        except WORKER_GONE:
            worker.end()
    worker = start_worker(serve_items, WORKER_OPTIONS, function)
    # One that ends before it has read its first item is noticed where its answer is waited for.
    with contextlib.suppress(*WORKER_GONE):
        worker.connection.send(item)
    return _Task(worker, item, time.monotonic())


def _take(worker: Worker, has_answered: bool) -> tuple[Any, Worker | None]:
    """Return the answer, and the worker for more items; neither where the worker has ended or will not answer."""
    if has_answered:
        with contextlib.suppress(*WORKER_GONE):
            return worker.connection.recv(), worker
    worker.end()
    return None, None


def serve_items(connection: Connection, function: Callable[[Any], object]) -> None:
    """Answer each item that arrives with `function(item)`, until the other end is closed; runs in a worker."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(EOFError):
        while True:
            connection.send(function(connection.recv()))
