"""One classifier worker as the pool sees it: the process, and the work it has."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from models.system.worker import Worker, WorkerOptions, start_worker
from pipeline.errors import WorkerDiedError
from pipeline.inference.worker import ClassifierSetup, serve
from pipeline.records import Batch, ItemError, Prediction
from pipeline.system.cpus import CpuSet


@dataclass(slots=True)
class Job:
    """A submitted batch and the results of its photos so far."""

    batch: Batch
    predictions: list[Prediction | ItemError | None]

    def finished(self) -> bool:
        """Whether each photo has a prediction or an error."""
        return None not in self.predictions


@dataclass(slots=True)
class Piece:
    """A run of a job's photos, and how many workers died while they had it."""

    job: Job
    start: int
    stop: int
    deaths: int = 0


@dataclass(slots=True)
class ClassifierWorker:
    """A classifier worker on its CPUs, and the pieces it was given, in order.

    `answer` holds its predictions for the first piece, which count when they are complete. `since_s` is when, by the
    monotonic clock, it began that piece; before the worker is `ready`, when it began to load the model.
    """

    cpus: CpuSet
    worker: Worker
    ready: bool = False
    pieces: deque[tuple[int, Piece]] = field(default_factory=deque)
    answer: list[Prediction] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)

    @property
    def busy_since_s(self) -> float | None:
        """Since when it has been at work or loading, None where it is idle."""
        return self.since_s if self.pieces or not self.ready else None


def start_classifier(setup: ClassifierSetup, cpus: CpuSet) -> ClassifierWorker:
    """Start a classifier worker on `cpus`; it loads its model meanwhile.

    Raises:
        WorkerDiedError: the system does not let it start.
    """
    options = WorkerOptions("fork", name=f"classifier-{cpus.indices[0]}")
    try:
        return ClassifierWorker(cpus, start_worker(serve, options, setup, cpus))
    except OSError as error:
        raise WorkerDiedError(f"a classifier worker cannot be started: {error}") from error
