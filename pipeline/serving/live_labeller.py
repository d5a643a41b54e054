"""Photos of any number of clients in, one answer for each out: a labeller that runs on in a thread of its own.

The states of a LiveLabeller:
- starting: the model is being loaded; photos wait.
- running: photos are labelled. A batch takes what is there at that moment, so a photo that comes alone goes alone and
  photos that come while all decode workers are busy share batches.
- failed: workers died too often, or the model could not be loaded. All photos are answered with the reason, and new
  ones are refused until the labeller runs again, which is tried after 1, 5, 15, 60, 60 ... seconds.
- reloading: the model is loaded again in a thread of its own, while the old one goes on. Once the new one is ready, no
  photo is handed out until those at work are finished, and the new one takes the place of the old one.
- closed: what was at work or waiting is finished, and the processes have ended.

The thread that starts a worker has to outlive the worker, since the kernel ends a process with the thread that started
it. So all workers are started by this thread, before it by the main thread, or by that of a reload, which stays.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

from models.system.watchdog import TICK_S
from pipeline.errors import LabelDirError
from pipeline.labeller import Labeller
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import Row
from pipeline.serving.model_reload import ModelReload
from pipeline.serving.task_queue import Answer, LabelTask, TaskQueue, Unlabelled
from pipeline.watching.labeller_supervisor import LabellerSupervisor

logger = logging.getLogger(__name__)


class LiveLabeller:
    """Labels tasks from any thread; `on_answers` is called in the labelling thread with those that are finished.

    An answered or forgotten task's upload is closed. A task that is forgotten before a worker has it is not labelled.
    """

    def __init__(self, start: Callable[[], Labeller], on_answers: Callable[[Sequence[Answer]], None]) -> None:
        self.stats = DaemonStats(mode="requests")
        self._start = start
        self._supervisor = LabellerSupervisor(self._started, self.stats, time.monotonic)
        self._on_answers = on_answers
        self._queue = TaskQueue()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reload_requested = False
        self._reload: ModelReload | None = None
        # What started the labeller at work, where that was a reload.
        self._starter: ModelReload | None = None
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
        """Load the model again, and label with it once it is ready; where that fails, the old one stays."""
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
        if self._reload is not None:
            self._reload.give_up()
        self._supervisor.close()
        self._release_starter()

    def _turn(self) -> bool:
        """Do what can be done now; return whether photos were finished, after which there may be more to do."""
        supervisor, queue = self._supervisor, self._queue
        self._go_on_reloading()
        supervisor.restart_if_due()
        labeller = supervisor.labeller
        if labeller is None:
            self._refuse_all(self.problem or "the model is not loaded")
            return False
        if labeller is not self._in_pass:
            labeller.start_live_pass(queue)
            self._in_pass = labeller
        queue.plan(
            labeller.idle_decode_workers,
            labeller.batch_size,
            is_paused=self._reload is not None and self._reload.labeller is not None,
        )
        answers = [queue.finish(row) for row in labeller.rows_now()]
        if answers:
            supervisor.reset_backoff()
            self._answer(answers)
        return bool(answers)

    def _go_on_reloading(self) -> None:
        if self._reload_requested and self._reload is None:
            self._reload_requested = False
            self._reload = ModelReload(self._start, self._wake_up)
        reload = self._reload
        if reload is None or not reload.is_over:
            return
        if reload.labeller is None:
            self._supervisor.refuse(reload.error)
        elif self._queue.at_work:
            return
        else:
            self.stats.model = reload.labeller.model_id
            self._supervisor.adopt(reload.labeller)
            self._release_starter()
            self._starter = reload
        self._reload = None

    def _release_starter(self) -> None:
        """Let the thread end that started the workers of a labeller, which have ended."""
        if self._starter is not None:
            self._starter.release()
            self._starter = None

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
        self._release_starter()
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
