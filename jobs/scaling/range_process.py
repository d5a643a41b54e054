"""The process that labels ranges on a node: orders in through a pipe, news out; it is what one machine's run is.

A process apart from Ray's own, which has threads and an environment of its own. This one starts its workers as any run
does, and only then a thread that listens.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from jobs.cli.options import LabellingOptions
from jobs.scaling.range_labeller import PartsRequest, RangeLabeller, range_labeller
from jobs.scaling.range_plan import PlannedRange
from jobs.scaling.range_queue import Failure
from models.system.worker import WORKER_GONE
from pipeline.errors import LabelDirError
from pipeline.records import RunSummary
from pipeline.run_request import Hooks
from pipeline.system.cpus import this_machine, usable_cores

_HEARTBEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Stop:
    """The order to publish what is labelled of the range at work."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Alive:
    """How many photos this process has opened so far."""

    photos: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """A range's part is published."""

    index: int
    summary: RunSummary


@dataclass(frozen=True, slots=True)
class Failed:
    """A range, or with None the process, failed."""

    index: int | None
    failure: Failure


Order = PlannedRange | Stop
News = Ready | Alive | Notice | Done | Failed


def label_ordered_ranges(connection: Connection, request: PartsRequest, cpus: int) -> None:
    """Label the ranges that come through `connection`, on at most `cpus` CPUs, until it is closed."""
    line = _Line(connection)
    _log_to(line, request.labelling.quiet)
    labelling = request.labelling
    fitted = replace(request, labelling=replace(labelling, options=_fitted(labelling.options, cpus)))
    try:
        with range_labeller(fitted) as labeller:
            line.send(Ready(labeller.model_id))
            # The processes are forked; a thread can do no harm any more.
            threading.Thread(target=line.listen, daemon=True).start()
            for planned in line.ranges():
                news = _labelled(planned, labeller, line)
                # A driver may have heard all that it waits for before the next heartbeat.
                line.report()
                line.send(news)
    except Exception as error:
        line.send(Failed(None, _failure(error)))


class _Line:
    """This process's end of the pipe, used by two threads; counts photos, which it reports once a second."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[PlannedRange | None] = queue.SimpleQueue()
        self._photos = 0
        self._is_stopping = False

    def send(self, news: News) -> None:
        # Where the other end is gone, `listen` has ended, too.
        with self._lock, contextlib.suppress(*WORKER_GONE):
            self._connection.send(news)

    def report(self) -> None:
        """Tell how many photos were opened so far."""
        self.send(Alive(self._photos))

    def listen(self) -> None:
        """Queue orders until the other end is closed."""
        with contextlib.suppress(*WORKER_GONE):
            while True:
                if not self._connection.poll(_HEARTBEAT_S):
                    self.report()
                    continue
                order: Order = self._connection.recv()
                if isinstance(order, Stop):
                    self._is_stopping = True
                else:
                    self._orders.put(order)
        self._is_stopping = True
        self._orders.put(None)

    def ranges(self) -> Iterator[PlannedRange]:
        """Yield ordered ranges until the other end is closed."""
        while (planned := self._orders.get()) is not None:
            yield planned

    def hooks(self) -> Hooks:
        """Return the hooks of a run that counts here, and that ends early, with its part published, on `Stop`."""
        return Hooks(on_row=self._count, time_is_up=lambda: self._is_stopping)

    def _count(self, *_: object) -> None:
        self._photos += 1


def _labelled(planned: PlannedRange, labeller: RangeLabeller, line: _Line) -> News:
    try:
        return Done(planned.index, labeller.label(planned, line.hooks(), takes_over=True))
    except Exception as error:
        return Failed(planned.index, _failure(error))


def _failure(error: Exception) -> Failure:
    if isinstance(error, LabelDirError):
        return Failure(str(error), int(error.exit_code), "\n".join(getattr(error, "__notes__", [])))
    return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}", trace=traceback.format_exc())


def _fitted(options: LabellingOptions, cpus: int) -> LabellingOptions:
    """Return options for the CPUs that Ray grants, where that is less than the machine has."""
    if cpus >= usable_cores(this_machine()):
        return options
    pool = options.pool or max(1, cpus // (options.threads or 1))
    return replace(options, pool=pool, workers=options.workers or cpus)


class _NoticeHandler(logging.Handler):
    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.send(Notice(record.getMessage()))


def _log_to(line: _Line, quiet: bool) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_NoticeHandler(line)]
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
    logging.captureWarnings(True)
