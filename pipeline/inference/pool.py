"""Classifier workers, each on its own CPUs; a worker that dies is restarted, and its batch goes on.

A worker loads its model (not ready), says Ready, and from then on answers its pieces in the order it was given them. A
piece that a worker died with goes back to the head of the queue: whole the first time, in halves the second, so that
after some deaths the photo that causes them is alone in its piece; when 3 workers have died with it alone, it gets an
error.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.connection import Connection, wait

from models.engines import import_engine
from models.system.watchdog import TICK_S, Fault, Watchdog
from models.system.worker import WORKER_GONE
from pipeline.errors import ModelNotLoadedError, WorkerDiedError
from pipeline.inference.worker import Answer, ClassifierSetup, LoadFailed, Ready, Task
from pipeline.inference.worker_handle import ClassifierWorker, Job, Piece, start_classifier
from pipeline.records import Batch, Classified, ErrorClass, ItemError, Prediction
from pipeline.system.cpus import CpuSet
from pipeline.system.crash_limit import CrashLimit

logger = logging.getLogger(__name__)

# One batch at work and one waiting in the pipe: the worker never idles while there is work, and a death costs little.
_TASKS_PER_WORKER = 2
# Fewer photos at a time take longer each.
_PHOTOS_WORTH_SHARING = 4
_DEATHS_UNTIL_HALVED = 2
# Workers also die of causes that are not the photo's, so one death with a photo that is alone proves nothing.
_DEATHS_OF_ONE_PHOTO = 3
_DEATHS_BEFORE_READY = 3
_END_PATIENCE_S = 1.0


class Pool:
    """A fixed number of classifier workers that share one slab.

    `timeout_s` bounds one batch; a worker that is slower is killed and its batch goes to another one.
    `recycle_bytes` bounds a worker's resident memory; a worker above it is replaced when it is idle.
    """

    def __init__(self, setup: ClassifierSetup, sets: Sequence[CpuSet], timeout_s: float, recycle_bytes: int) -> None:
        self._setup = setup
        self._sets = tuple(sets)
        self._watchdog = Watchdog(timeout_s, recycle_bytes)
        self._workers: list[ClassifierWorker] = []
        self._waiting: deque[Piece] = deque()
        self._jobs = 0
        self._done: list[Classified] = []
        self._number = 0
        self._deaths_before_ready = 0
        self._death_rate = CrashLimit("classifier")
        self.restarts = 0

    def start(self) -> None:
        """Start the workers; returns at once, they load and warm up meanwhile."""
        import_engine(self._setup.engine)
        for cpus in self._sets:
            self._workers.append(start_classifier(self._setup, cpus))

    @property
    def busy(self) -> bool:
        """Whether a submitted batch has not come back yet."""
        return self._jobs > 0

    @property
    def connections(self) -> list[Connection]:
        """What becomes readable when a worker has answered or ended."""
        return [worker.worker.connection for worker in self._workers]

    def wait_until_warm(self) -> None:
        """Return when every worker has loaded its model and classified a first batch of its own.

        Raises:
            WorkerDiedError: the model cannot be loaded.
        """
        while not all(worker.ready for worker in self._workers):
            self._receive(TICK_S)
            self._inspect_workers()

    def submit(self, batch: Batch) -> None:
        """Queue the photos of `batch`, at least one; idle workers share them."""
        count = batch.photo_count
        job = Job(batch, [None] * count)
        idle = 0 if self._waiting else sum(not worker.pieces for worker in self._workers)
        parts = max(1, min(idle, count // _PHOTOS_WORTH_SHARING))
        bounds = [count * part // parts for part in range(parts + 1)]
        self._waiting.extend(Piece(job, start, stop) for start, stop in pairwise(bounds))
        self._jobs += 1
        self._dispatch()

    def collect(self, timeout_s: float) -> list[Classified]:
        """Return the batches that are finished, waiting at most `timeout_s` for the first.

        Raises:
            WorkerDiedError: workers die faster than restarting them makes sense.
        """
        self._receive(timeout_s)
        self._inspect_workers()
        self._dispatch()
        done, self._done = self._done, []
        return done

    def discard_batches(self) -> None:
        """Discard the batches that have not come back; the workers stay, ready for others."""
        self._waiting.clear()
        while any(worker.pieces for worker in self._workers):
            self.collect(TICK_S)
        self._jobs = 0
        self._done = []

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.worker.connection.close()
        for worker in self._workers:
            # A worker that is busy is not waited for.
            worker.worker.end(0.0 if worker.busy_since_s is not None else _END_PATIENCE_S)
        self._workers = []

    def _dispatch(self) -> None:
        while self._waiting:
            worker = min(self._workers, key=lambda candidate: (len(candidate.pieces), not candidate.ready))
            if len(worker.pieces) >= _TASKS_PER_WORKER:
                return
            piece = self._waiting.popleft()
            self._number += 1
            if not worker.pieces:
                worker.since_s = time.monotonic()
            worker.pieces.append((self._number, piece))
            try:
                worker.worker.connection.send(Task(self._number, piece.job.batch.slot, piece.start, piece.stop))
            except WORKER_GONE:
                self._restart(worker)

    def _receive(self, timeout_s: float) -> None:
        by_connection = {worker.worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout_s):
            worker = by_connection[connection]  # type: ignore[index]  # wait() returns what it was given
            try:
                message = worker.worker.connection.recv()
            except WORKER_GONE:
                self._restart(worker)
                continue
            self._take(worker, message)

    def _take(self, worker: ClassifierWorker, message: Ready | LoadFailed | Answer) -> None:
        if isinstance(message, LoadFailed):
            error = ModelNotLoadedError if message.is_file_at_fault else WorkerDiedError
            raise error(f"the model cannot be loaded: {message.reason}")
        worker.since_s = time.monotonic()
        if isinstance(message, Ready):
            worker.ready = True
            self._deaths_before_ready = 0
            return
        number, piece = worker.pieces[0]
        if number != message.number:
            raise WorkerDiedError(f"a classifier worker answered task {message.number} instead of {number}")
        worker.answer += [
            Prediction(tuple(ids), tuple(probabilities), familiarity)
            for ids, probabilities, familiarity in zip(
                message.class_ids.tolist(), message.probabilities.tolist(), message.familiarity.tolist(), strict=True
            )
        ]
        if len(worker.answer) == piece.stop - piece.start:
            piece.job.predictions[piece.start : piece.stop] = worker.answer
            worker.answer = []
            worker.pieces.popleft()
            self._settle(piece.job)

    def _settle(self, job: Job) -> None:
        if job.finished():
            self._jobs -= 1
            known = tuple(prediction for prediction in job.predictions if prediction is not None)
            self._done.append(Classified(job.batch, known))

    def _restart(self, worker: ClassifierWorker) -> None:
        """Replace a dead worker and requeue its work."""
        cause = worker.worker.end(_END_PATIENCE_S)
        logger.warning("a classifier worker died (%s); it is restarted", cause)
        index = self._workers.index(worker)
        del self._workers[index]
        if not worker.ready:
            self._deaths_before_ready += 1
            # Where another worker has loaded the model, it can be loaded.
            if self._deaths_before_ready >= _DEATHS_BEFORE_READY and not any(other.ready for other in self._workers):
                raise WorkerDiedError(f"classifier workers die while they load the model ({cause})")
        pieces = [piece for _, piece in worker.pieces]
        if pieces and worker.ready:
            self._death_rate.count(pieces[0].job.batch.refs[0].path)
            pieces[:1] = self._suspect(pieces[0])
        self._waiting.extendleft(reversed(pieces))
        self._workers.insert(index, start_classifier(self._setup, worker.cpus))
        self.restarts += 1

    def _suspect(self, piece: Piece) -> list[Piece]:
        """Return the work that is left of a piece that a worker died with: the piece, its halves, or nothing."""
        piece.deaths += 1
        is_alone = piece.stop - piece.start == 1
        if piece.deaths < (_DEATHS_OF_ONE_PHOTO if is_alone else _DEATHS_UNTIL_HALVED):
            return [piece]
        if is_alone:
            reason = f"{piece.deaths} classifier workers died with this photo"
            piece.job.predictions[piece.start] = ItemError(ErrorClass.WORKER_CRASH, reason)
            self._settle(piece.job)
            return []
        middle = (piece.start + piece.stop) // 2
        halves = ((piece.start, middle), (middle, piece.stop))
        return [Piece(piece.job, start, stop, deaths=int(stop - start > 1)) for start, stop in halves]

    def _inspect_workers(self) -> None:
        """Once a tick, kill workers that will never answer, which then restart as dead ones, and replace grown ones."""
        by_pid = {worker.worker.pid: worker for worker in self._workers}
        faults = self._watchdog.inspect((pid, worker.busy_since_s) for pid, worker in by_pid.items())
        for pid, (fault, reason) in faults.items():
            worker = by_pid[pid]
            if fault is Fault.GROWN:
                logger.info("a classifier worker has %s; it is replaced", reason)
                worker.worker.end(_END_PATIENCE_S)
                self._workers[self._workers.index(worker)] = start_classifier(self._setup, worker.cpus)
            else:
                worker.worker.kill(reason)
