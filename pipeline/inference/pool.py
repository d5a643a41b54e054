"""Classifier processes, one pinned thread set each; supervised: a death costs a restart, never a batch."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.connection import wait

from pipeline.errors import WorkerDiedError
from pipeline.inference.worker import Answer, ClassifierSetup, LoadFailed, Ready, Task
from pipeline.inference.worker_handle import Job, Piece, Worker, end, spawn
from pipeline.records import Batch, Classified, ErrorClass, ItemError, Prediction
from pipeline.system.child_process import cause_of_end, is_stopped, resident_bytes
from pipeline.system.cpus import CpuSet
from pipeline.system.crash_limit import CrashLimit

logger = logging.getLogger(__name__)

# One batch at work and one waiting in the pipe: the process never idles while there is work, and little is lost.
_TASKS_PER_PROCESS = 2
# Fewer at a time take longer each.
_PHOTOS_WORTH_SHARING = 4
_DEATHS_UNTIL_HALVED = 2
# Processes also die of causes that are not the photo's: one that is alone must prove it.
_DEATHS_OF_ONE_PHOTO = 3
_TICK_S = 1.0
_AWAY_S = 5.0
_DEATHS_BEFORE_READY = 3


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
        self._workers: list[Worker] = []
        self._waiting: deque[Piece] = deque()
        self._jobs = 0
        self._done: list[Classified] = []
        self._number = 0
        self._deaths_before_ready = 0
        self._death_rate = CrashLimit("classifier")
        self._looked_at_s = time.monotonic()
        self.restarts = 0

    def start(self) -> None:
        """Start the processes; returns at once, they load and warm up meanwhile."""
        self._workers = [spawn(self._setup, cpus) for cpus in self._sets]

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
            self._receive(_TICK_S)
            self._look_after_processes()

    def submit(self, batch: Batch) -> None:
        """Queue the photos of `batch`, at least one; processes that have nothing to do share them."""
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
            WorkerDiedError: processes die faster than restarting them makes sense.
        """
        self._receive(timeout_s)
        self._look_after_processes()
        self._dispatch()
        done, self._done = self._done, []
        return done

    def drop(self) -> None:
        """Forget the batches that have not come back; the processes stay, ready for others."""
        self._waiting.clear()
        while any(worker.pieces for worker in self._workers):
            self.collect(_TICK_S)
        self._jobs = 0
        self._done = []

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            # One that is at work is not waited for.
            end(worker, patience_s=0.0 if worker.pieces or not worker.ready else 1.0)
        self._workers = []

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
                self._bury(worker)

    def _receive(self, timeout_s: float) -> None:
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout_s):
            worker = by_connection[connection]  # type: ignore[index]  # wait() returns what it was given
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            self._take(worker, message)

    def _take(self, worker: Worker, message: Ready | LoadFailed | Answer) -> None:
        if isinstance(message, LoadFailed):
            raise WorkerDiedError(f"the model cannot be loaded: {message.reason}")
        worker.head_since_s = time.monotonic()
        if isinstance(message, Ready):
            worker.ready = True
            self._deaths_before_ready = 0
            return
        number, piece = worker.pieces[0]
        if number != message.number:
            raise WorkerDiedError(f"a classifier answered task {message.number} instead of {number}")
        worker.answer += [
            Prediction(tuple(ids), tuple(probabilities))
            for ids, probabilities in zip(message.class_ids.tolist(), message.probabilities.tolist(), strict=True)
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

    def _bury(self, worker: Worker) -> None:
        """Put a new process in the place of a dead one, and its work back in the queue."""
        cause = cause_of_end(end(worker))
        logger.warning("a classifier process died (%s); it is restarted", cause)
        place = self._workers.index(worker)
        del self._workers[place]
        if not worker.ready:
            self._deaths_before_ready += 1
            # Where another process has loaded the model, it can be loaded.
            if self._deaths_before_ready >= _DEATHS_BEFORE_READY and not any(one.ready for one in self._workers):
                raise WorkerDiedError(f"classifier processes die while they load the model ({cause})")
        pieces = [piece for _, piece in worker.pieces]
        if pieces and worker.ready:
            self._death_rate.count(pieces[0].job.batch.refs[0].path)
            pieces[:1] = self._suspect(pieces[0])
        self._waiting.extendleft(reversed(pieces))
        self._workers.insert(place, spawn(self._setup, worker.cpus))
        self.restarts += 1

    def _suspect(self, piece: Piece) -> list[Piece]:
        """Return what is still to do of the piece a process died with: all of it, its halves, or nothing."""
        piece.deaths += 1
        is_alone = piece.stop - piece.start == 1
        if piece.deaths < (_DEATHS_OF_ONE_PHOTO if is_alone else _DEATHS_UNTIL_HALVED):
            return [piece]
        if is_alone:
            reason = f"{piece.deaths} classifier processes died with this photo"
            piece.job.predictions[piece.start] = ItemError(ErrorClass.WORKER_CRASH, reason)
            self._settle(piece.job)
            return []
        middle = (piece.start + piece.stop) // 2
        halves = ((piece.start, middle), (middle, piece.stop))
        return [Piece(piece.job, start, stop, deaths=int(stop - start > 1)) for start, stop in halves]

    def _look_after_processes(self) -> None:
        """Kill what hangs (its end then reads like any death) and replace idle processes that have grown."""
        now_s = time.monotonic()
        if now_s - self._looked_at_s < _TICK_S:
            return
        was_away = now_s - self._looked_at_s > max(_AWAY_S, self._timeout_s / 2)
        self._looked_at_s = now_s
        for worker in list(self._workers):
            if was_away:
                # This process itself was stopped or asleep; what waited for it is not late.
                worker.head_since_s = now_s
            self._look_at(worker, now_s)

    def _look_at(self, worker: Worker, now_s: float) -> None:
        pid = worker.process.pid or 0
        was_stopped, worker.was_stopped = worker.was_stopped, is_stopped(pid)
        if was_stopped and worker.was_stopped:
            logger.warning("a classifier process was stopped from outside; it is killed")
            worker.process.kill()
        elif (worker.pieces or not worker.ready) and now_s - worker.head_since_s > self._timeout_s:
            logger.warning("a classifier process gave no answer for %.0f s; it is killed", self._timeout_s)
            worker.process.kill()
        elif worker.ready and not worker.pieces and resident_bytes(pid) > self._recycle_bytes:
            logger.info("a classifier process has grown past %d MB; it is replaced", self._recycle_bytes >> 20)
            end(worker)
            self._workers[self._workers.index(worker)] = spawn(self._setup, worker.cpus)
