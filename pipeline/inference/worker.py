"""The inside of one classifier worker: pin, load, warm up, answer tasks. Imports neither torch nor Pillow."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputMissingError
from pipeline.system.cpus import CpuSet
from pipeline.system.shared_array import Slab

# Decode workers go first: they fill the free slots and then rest, and classifiers work on undisturbed, their caches
# warm. At niceness 5 the two took turns every few milliseconds and evicted each other's caches: 4% of all CPU time.
_NICENESS = 10
# One photo loads all that a batch needs. Sixteen would take a tenth of a second before the first photo of a run.
_WARM_UP_PHOTOS = 1
# A message of this length is written in one piece. A longer one may break off where its writer is suspended, and the
# pool, which reads each message to its end, would wait for ever.
_ANSWER_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ClassifierSetup:
    """What a classifier worker needs to start; the same for all of a pool but for the CPU set."""

    artifact_path: Path
    engine: str
    top_k: int
    slab: Slab


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and warm."""


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """The model cannot be loaded, and why."""

    reason: str
    is_file_at_fault: bool


@dataclass(frozen=True, slots=True)
class Task:
    """Photos `start` to `stop` (excluded) of slab slot `slot`, to be answered under `number`."""

    number: int
    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Top-k of a task's next photos: class ids int32 [n, k] and probabilities float32 [n, k], descending; and how
    familiar the photos are to a taught model, float32 [n]."""

    number: int
    class_ids: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    familiarity: NDArray[np.float32]


def serve(connection: Connection, setup: ClassifierSetup, cpus: CpuSet) -> None:
    """Answer tasks from `connection` until its other end closes."""
    # Where the pool has gone nothing waits for an answer, nor for Python to take the libraries apart.
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(connection, setup, cpus)
    os._exit(0)


def _serve(connection: Connection, setup: ClassifierSetup, cpus: CpuSet) -> None:
    os.sched_setaffinity(0, cpus.indices)
    os.nice(_NICENESS)
    from models.engines import load_engine

    try:
        engine = load_engine(setup.engine, setup.artifact_path, len(cpus.indices), setup.top_k, cpus.indices)
        engine.warm_up(_WARM_UP_PHOTOS)
    except Exception as error:
        is_file_at_fault = isinstance(error, InputMissingError)
        reason = str(error) if is_file_at_fault else f"{type(error).__name__}: {' '.join(str(error).split())}"
        connection.send(LoadFailed(reason, is_file_at_fault))
        return
    connection.send(Ready())
    photos = max(1, _ANSWER_BYTES // (8 * setup.top_k + 4))
    while True:
        task: Task = connection.recv()
        top_k = engine.classify(setup.slab.slot(task.slot)[task.start : task.stop])
        for start in range(0, len(top_k.ids), photos):
            part = slice(start, start + photos)
            answer = Answer(task.number, top_k.ids[part], top_k.probabilities[part], top_k.familiarity[part])
            connection.send(answer)
