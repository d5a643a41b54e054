"""Classifier processes, one pinned thread set each; supervised: a death costs a restart, never a batch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from pipeline.children import cause_of_end, resident_bytes, starting_children
from pipeline.classifier_process import Answer, ClassifierSetup, LoadFailed, Ready, Task, serve
from pipeline.cpus import CpuSet
from pipeline.errors import WorkerDiedError
from pipeline.records import Batch, Classified, ErrorClass, ItemError, Prediction
from pipeline.strikes import DeathRate

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

logger = logging.getLogger(__name__)

# One batch at work and one waiting in the pipe: the process never idles while there is work, and little is lost.
_TASKS_PER_PROCESS = 2
_DEATHS_UNTIL_HALVED = 2
_DEATHS_BEFORE_READY = 3


@dataclass(slots=True)
class _Job:
    """A submitted batch and what is known of its photos so far."""

    batch: Batch
    predictions: list[Prediction | ItemError | None]

    def finished(self) -> bool:
        return None not in self.predictions


@dataclass(slots=True)
class _Piece:
    """A run of a job's photos, and how often the process that had it died."""

    job: _Job
    start: int
    stop: int
    deaths: int = 0


@dataclass(slots=True)
class _Worker:
    cpus: CpuSet
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    pieces: deque[tuple[int, _Piece]] = field(default_factory=deque)
    # When the piece at the head of the queue began, by the monotonic clock.
    head_since_s: float = 0.0


class Pool:
    """A fixed number of classifier processes that share one slab.

    `timeout_s` bounds one batch; a process that is slower is killed and its batch goes to another.
    `recycle_bytes` bounds a process's resident memory; one above it is replaced when it has nothing to do.
    """

    def __init__(self, setup: ClassifierSetup, sets: Sequence[CpuSet], timeout_s: float, recycle_bytes: int) -> None:
        self._setup = setup
        self._sets = tuple(sets)
        self._timeout_s = timeout_s
        self._recycle_bytes = recycle_bytes
        self._workers: list[_Worker] = []
        self._waiting: deque[_Piece] = deque()
        self._jobs = 0
        self._number = 0
        self._deaths_before_ready = 0
        self._death_rate = DeathRate("classifier")
        self._looked_at_s = time.monotonic()
        self.restarts = 0

    def start(self) -> None:
        """Start the processes; returns at once, they load and warm up meanwhile."""
        self._workers = [self._spawn(cpus) for cpus in self._sets]

    @property
    def busy(self) -> bool:
        """Whether a submitted batch has not come back yet."""
        return self._jobs > 0

    def wait_until_warm(self) -> None:
        """Return when every process has loaded its model and answered a first batch of its own.

        Raises:
            WorkerDiedError: the model cannot be loaded.
        """
        while not all(worker.ready for worker in self._workers):
            self._receive(1.0, [])

    def submit(self, batch: Batch) -> None:
        """Queue the photos of `batch`; at least one."""
        count = batch.photo_count
        self._waiting.append(_Piece(_Job(batch, [None] * count), 0, count))
        self._jobs += 1
        self._dispatch()

    def collect(self, timeout_s: float) -> list[Classified]:
        """Return the batches that are finished, waiting at most `timeout_s` for the first.

        Raises:
            WorkerDiedError: processes die faster than restarting them makes sense.
        """
        done: list[Classified] = []
        self._receive(timeout_s, done)
        self._look_after_processes()
        self._dispatch()
        return done

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.join(1.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers = []

    def _spawn(self, cpus: CpuSet) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve,
            args=(theirs, self._setup, cpus, os.getpid()),
            name=f"classifier-{cpus.indices[0]}",
            daemon=True,
        )
        with starting_children():
            process.start()
        theirs.close()
        return _Worker(cpus, process, ours)

    def _dispatch(self) -> None:
        while self._waiting:
            worker = min(self._workers, key=lambda candidate: (len(candidate.pieces), not candidate.ready))
            if len(worker.pieces) >= _TASKS_PER_PROCESS:
                return
            piece = self._waiting.popleft()
            self._number += 1
            if not worker.pieces:
                worker.head_since_s = time.monotonic()
            worker.pieces.append((self._number, piece))
            try:
                worker.connection.send(Task(self._number, piece.job.batch.slot, piece.start, piece.stop))
            except OSError:
                self._bury(worker, [])

    def _receive(self, timeout_s: float, done: list[Classified]) -> None:
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout_s):
            worker = by_connection[connection]  # type: ignore[index]  # wait() returns what it was given
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker, done)
                continue
            self._take(worker, message, done)

    def _take(self, worker: _Worker, message: Ready | LoadFailed | Answer, done: list[Classified]) -> None:
        if isinstance(message, LoadFailed):
            raise WorkerDiedError(f"the model cannot be loaded: {message.reason}")
        worker.head_since_s = time.monotonic()
        if isinstance(message, Ready):
            worker.ready = True
            self._deaths_before_ready = 0
            return
        number, piece = worker.pieces.popleft()
        if number != message.number:
            raise WorkerDiedError(f"a classifier answered task {message.number} instead of {number}")
        piece.job.predictions[piece.start : piece.stop] = [
            Prediction(tuple(ids), tuple(probabilities))
            for ids, probabilities in zip(message.class_ids.tolist(), message.probabilities.tolist(), strict=True)
        ]
        self._settle(piece.job, done)

    def _settle(self, job: _Job, done: list[Classified]) -> None:
        if job.finished():
            self._jobs -= 1
            known = tuple(prediction for prediction in job.predictions if prediction is not None)
            done.append(Classified(job.batch, known))

    def _bury(self, worker: _Worker, done: list[Classified]) -> None:
        """Put a new process in the place of a dead one, and its work back in the queue."""
        worker.process.join(1.0)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        cause = cause_of_end(worker.process.exitcode)
        logger.warning("a classifier process died (%s); it is restarted", cause)
        worker.process.close()
        worker.connection.close()
        if not worker.ready:
            self._deaths_before_ready += 1
            if self._deaths_before_ready >= _DEATHS_BEFORE_READY:
                raise WorkerDiedError(f"classifier processes die while they load the model ({cause})")
        pieces = [piece for _, piece in worker.pieces]
        if pieces and worker.ready:
            self._death_rate.count(pieces[0].job.batch.refs[0].path)
            pieces[:1] = self._suspect(pieces[0], done)
        self._waiting.extendleft(reversed(pieces))
        self._workers[self._workers.index(worker)] = self._spawn(worker.cpus)
        self.restarts += 1

    def _suspect(self, piece: _Piece, done: list[Classified]) -> list[_Piece]:
        """Return what is still to do of the piece a process died with: all of it, its halves, or nothing."""
        piece.deaths += 1
        if piece.deaths < _DEATHS_UNTIL_HALVED:
            return [piece]
        if piece.stop - piece.start == 1:
            reason = f"{piece.deaths} classifier processes died with this photo"
            piece.job.predictions[piece.start] = ItemError(ErrorClass.WORKER_CRASH, reason)
            self._settle(piece.job, done)
            return []
        middle = (piece.start + piece.stop) // 2
        return [_Piece(piece.job, piece.start, middle, 1), _Piece(piece.job, middle, piece.stop, 1)]

    def _look_after_processes(self) -> None:
        """Kill what hangs (its end then reads like any death) and replace idle processes that have grown."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s < 1.0:
            return
        was_away = now_s - self._looked_at_s > self._timeout_s / 2
        self._looked_at_s = now_s
        for worker in list(self._workers):
            if was_away:
                # This process itself was stopped or asleep; what waited for it is not late.
                worker.head_since_s = now_s
            if worker.pieces and now_s - worker.head_since_s > self._timeout_s:
                logger.warning("a classifier process gave no answer for %.0f s; it is killed", self._timeout_s)
                worker.process.kill()
            elif not worker.pieces and worker.ready and self._is_too_big(worker):
                self._replace(worker)

    def _is_too_big(self, worker: _Worker) -> bool:
        return worker.process.pid is not None and resident_bytes(worker.process.pid) > self._recycle_bytes

    def _replace(self, worker: _Worker) -> None:
        logger.info("a classifier process has grown past %d MB; it is replaced", self._recycle_bytes >> 20)
        worker.connection.close()
        worker.process.join(1.0)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()
        self._workers[self._workers.index(worker)] = self._spawn(worker.cpus)
