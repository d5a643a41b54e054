"""Photos of any number of clients in, one answer for each out: a labeller that runs on in a thread of its own.

The states of a LiveLabeller:
- starting: the model is being loaded; photos wait.
- running: photos are labelled. A batch takes what is there at that moment, so a photo that comes alone goes alone and
  photos that come while all decode workers are busy share batches.
- failed: workers died too often, or the model could not be loaded. All photos are answered with the reason, and new
  ones are refused until the labeller runs again, which is tried after 1, 5, 15, 60, 60 ... seconds.
- reloading: no photo is handed out; when those at work are finished, the model is loaded again. Photos wait.
- closed: what was at work or waiting is finished, and the processes have ended.

The thread that starts a worker has to outlive the worker, since the kernel ends a process with the thread that started
it. So all workers are started by this thread, or before it by the main thread.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from models.system.watchdog import TICK_S
from pipeline.errors import LabelDirError
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import FileRef, Row
from pipeline.serving.upload import Upload
from pipeline.watching.labeller_supervisor import LabellerSupervisor

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class LabelTask:
    """One photo of a client; `is_forgotten` once the client has left. `started_s` is by the monotonic clock."""

    upload: Upload
    is_forgotten: bool = False
    waiting_since_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Why a photo has no row although nothing is known against the photo itself: the labeller failed."""

    reason: str


Answer = tuple[LabelTask, "Row | Unlabelled"]


class LiveLabeller:
    """Labels tasks from any thread; `on_answers` is called in the labelling thread with those that are finished.

    An answered or forgotten task's upload is closed. A task that is forgotten before a worker has it is not labelled.
    """

    def __init__(self, start: Callable[[], Labeller], on_answers: Callable[[Sequence[Answer]], None]) -> None:
        self.stats = DaemonStats(mode="requests")
        self._start = start
        self._supervisor = LabellerSupervisor(self._started, self.stats, time.monotonic)
        self._on_answers = on_answers
        self._queue = _TaskQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reload_requested = False
        self._close_requested = False
        self._in_pass: Labeller | None = None
        self._thread = threading.Thread(target=self._run, name="labeller")

    def load(self) -> None:
        """Load the model in the calling thread, which has to be the main thread.

        Raises:
            LabelDirError: the model cannot be loaded.
        """
        self._supervisor.start()

    def start(self) -> None:
        """Start the thread, which loads the model unless `load` has."""
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded and its workers run."""
        return self._supervisor.labeller is not None

    @property
    def problem(self) -> str | None:
        """Why photos cannot be labelled at present, None where they can, or the model is being loaded."""
        return self.stats.problems.get("labelling")

    @property
    def restarts(self) -> int:
        """How many worker processes have been replaced so far."""
        return self._supervisor.restarts

    def submit(self, tasks: Sequence[LabelTask]) -> None:
        """Queue `tasks`, in their order."""
        self._queue.waiting.extend(tasks)
        self._wake_up()

    def request_reload(self) -> None:
        """Load the model again once the photos at work are finished; where that fails, the old one stays."""
        self._reload_requested = True
        self._wake_up()

    def close(self) -> None:
        """Finish the tasks, end the workers and return."""
        self._close_requested = True
        self._wake_up()
        if self._thread.is_alive():
            self._thread.join()
        else:
            self._supervisor.close()
        os.close(self._wake)

    def _started(self) -> Labeller:
        labeller = self._start()
        self.stats.model = labeller.model_id
        return labeller

    def _wake_up(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while not (self._close_requested and self._queue.is_empty):
            try:
                if not self._turn():
                    self._wait()
            except LabelDirError as error:
                self._fail(error)
            except Exception as error:
                logger.exception("this is a bug, please report it; labelling goes on")
                self._fail(error)
        self._supervisor.close()

    def _turn(self) -> bool:
        """Do what can be done now; return whether photos were finished, after which there may be more to do."""
        supervisor, queue = self._supervisor, self._queue
        if self._reload_requested and not queue.at_work:
            self._reload_requested = False
            supervisor.reload()
        supervisor.restart_if_due()
        labeller = supervisor.labeller
        if labeller is None:
            self._refuse_all(self.problem or "the model is not loaded")
            return False
        if labeller is not self._in_pass:
            labeller.start_live_pass(queue)
            self._in_pass = labeller
        queue.plan(labeller.idle_decode_workers, labeller.batch_size, is_paused=self._reload_requested)
        answers = [queue.finish(row) for row in labeller.rows_now()]
        if answers:
            supervisor.reset_backoff()
            self._answer(answers)
        return bool(answers)

    def _wait(self) -> None:
        labeller = self._supervisor.labeller
        if labeller is not None:
            labeller.wait_for_workers(self._wake, TICK_S)
        else:
            # Until the restart is due there is nothing to wait for but the clock.
            time.sleep(0.1)
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return

    def _fail(self, error: Exception) -> None:
        self._in_pass = None
        self._supervisor.back_off(error)
        self._refuse_all(str(error))

    def _refuse_all(self, reason: str) -> None:
        self._answer([(task, Unlabelled(reason)) for task in self._queue.take_all()])

    def _answer(self, answers: Sequence[Answer]) -> None:
        for task, answer in answers:
            task.upload.close()
            if isinstance(answer, Row):
                if answer.error is None:
                    self.stats.labelled += 1
                else:
                    self.stats.failed[answer.error.error_class] += 1
        if answers:
            self._on_answers(answers)


class _TaskQueue(Iterator[FileRef]):
    """The tasks that wait, as the files of a live pass, and the tasks that workers have.

    A work ends after `share` files, so that idle decode workers divide what waits among themselves.
    """

    def __init__(self) -> None:
        self.waiting: deque[LabelTask] = deque()
        self.at_work: dict[str, LabelTask] = {}
        self._numbers = count()
        self._share = self._left = self._batch_size = 1
        self._is_paused = False

    @property
    def is_empty(self) -> bool:
        """Whether no task waits and none is at work."""
        return not self.waiting and not self.at_work

    def plan(self, idle_workers: int, batch_size: int, is_paused: bool) -> None:
        """Decide how many files a Work has from now on; while paused there are none."""
        self._batch_size = batch_size
        self._share = self._left = max(1, min(batch_size, math.ceil(len(self.waiting) / max(1, idle_workers))))
        self._is_paused = is_paused

    def __next__(self) -> FileRef:
        while self.waiting and not self._is_paused:
            if not self._left:
                self._left = self._share
                raise StopIteration
            task = self.waiting.popleft()
            if task.is_forgotten:
                task.upload.close()
                continue
            self._left -= 1
            if not self._left and self._share >= self._batch_size:
                # A full Work ends without asking for a further file.
                self._left = self._share
            name = str(next(self._numbers))
            self.at_work[name] = task
            return task.upload.sealed_ref(name)
        raise StopIteration

    def finish(self, row: Row) -> Answer:
        """Return the task of `row`, with the row under the name that the client gave."""
        task = self.at_work.pop(row.file_name)
        return task, replace(row, file_name=task.upload.file_name)

    def take_all(self) -> list[LabelTask]:
        """Return all tasks, which then neither wait nor are at work."""
        tasks = [*self.at_work.values(), *self.waiting]
        self.at_work.clear()
        self.waiting.clear()
        return tasks
