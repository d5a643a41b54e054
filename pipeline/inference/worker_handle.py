"""One classifier process as the pool sees it: its end of the pipe, and the work it has."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from pipeline.errors import WorkerDiedError
from pipeline.inference.worker import ClassifierSetup, serve
from pipeline.records import Batch, ItemError, Prediction
from pipeline.system.child_process import pipe_to_child, starting_children
from pipeline.system.cpus import CpuSet

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_STARTS = 3


@dataclass(slots=True)
class Job:
    """A submitted batch and what is known of its photos so far."""

    batch: Batch
    predictions: list[Prediction | ItemError | None]

    def finished(self) -> bool:
        return None not in self.predictions


@dataclass(slots=True)
class Piece:
    """A run of a job's photos, and how often the process that had it died."""

    job: Job
    start: int
    stop: int
    deaths: int = 0


@dataclass(slots=True)
class Worker:
    """A classifier process, the pieces it was given in order, and since when it is at the first of them.

    `answer` is what it has said of the first, which counts when it is complete.
    `head_since_s` is by the monotonic clock; before the process is `ready` it is when it began to load the model.
    """

    cpus: CpuSet
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    was_stopped: bool = False
    pieces: deque[tuple[int, Piece]] = field(default_factory=deque)
    answer: list[Prediction] = field(default_factory=list)
    head_since_s: float = field(default_factory=time.monotonic)


def spawn(setup: ClassifierSetup, cpus: CpuSet) -> Worker:
    """Start a classifier process on `cpus`; it loads its model meanwhile.

    Raises:
        WorkerDiedError: the system does not let it start.
    """
    for _ in range(_STARTS):
        try:
            return _spawn_once(setup, cpus)
        except (OSError, EOFError) as error:
            reason = error
    raise WorkerDiedError(f"a classifier process cannot be started: {reason}")


def _spawn_once(setup: ClassifierSetup, cpus: CpuSet) -> Worker:
    with pipe_to_child() as (ours, theirs):
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, setup, cpus, os.getpid()), name=f"classifier-{cpus.indices[0]}", daemon=True
        )
        with starting_children():
            process.start()
    return Worker(cpus, process, ours)


def end(worker: Worker, patience_s: float = 1.0) -> int | None:
    """End a process, by force where it has not gone by itself within `patience_s`; return its exit code."""
    worker.connection.close()
    worker.process.join(patience_s)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    exit_code = worker.process.exitcode
    worker.process.close()
    return exit_code
