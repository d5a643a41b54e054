"""From the options of `watch-folder` to a running daemon: checks, lock, pieces, signals."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from jobs.labelling import LabelDirOptions, run_request
from pipeline.daemon import Daemon, Wishes
from pipeline.disposal import Disposal
from pipeline.errors import ExitCode, OutputError, UsageError
from pipeline.inbox import Inbox
from pipeline.intake import Intake
from pipeline.labeller import Labeller
from pipeline.lock import held
from pipeline.lookout import POLL_S, Lookout, Rhythm
from pipeline.metrics import MetricsServer
from pipeline.outlet import Outlet
from pipeline.partitions import STATE_FOLDER, Partitions
from pipeline.report import Reporter
from pipeline.run import Interrupted
from pipeline.scanner import Scanner
from pipeline.service_manager import ServiceManager
from pipeline.tracker import Tracker
from pipeline.vitals import Vitals
from pipeline.wakeup import Wakeup
from pipeline.walk import WalkRules

logger = logging.getLogger(__name__)

STATUS_NAME = "status.json"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The options of `watch-folder`; `labelling` holds those it shares with `label-dir`, `out` being the labels."""

    labelling: LabelDirOptions
    flush_s: float
    settle_s: float
    poll_s: float | None
    rescan_s: float
    once: bool
    done: str
    part_format: str
    part_rows: int
    metrics: str | None
    status: Path | None


def watch_folder(options: WatchOptions) -> int:
    """Watch until told to stop; returns the exit code.

    Raises:
        UsageError: the options contradict each other, or the folders lie in each other.
        InputMissingError: the inbox is not there.
        OutputError: the labels cannot be written.
        LockedError: another process writes the same labels.
        ModelError, WorkerDiedError: the model cannot be loaded.
    """
    labels = options.labelling.out
    disposal = _disposal(options)
    _refuse_nesting(options.labelling.photos.resolve(), labels.resolve())
    vitals = Vitals()
    with contextlib.ExitStack() as stack:
        try:
            labels.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(labels / STATE_FOLDER / "lock", str(labels)))
            sink = Partitions(labels, options.part_format, options.labelling.topk, options.part_rows)
        except OSError as error:
            raise OutputError(f"{labels} cannot be written: {error.strerror or error}") from error
        stack.callback(sink.close)
        if options.metrics:
            server = MetricsServer(*_address(options.metrics), vitals)
            stack.callback(server.close)
            logger.info("metrics at port %d", server.port, extra={"fields": {"port": server.port}})
        wishes, wakeup = Wishes(), Wakeup()
        stack.callback(wakeup.close)
        stack.enter_context(_signals(wishes, wakeup))
        _daemon(options, disposal, sink, vitals, wishes, wakeup).run()
    return ExitCode.SOME_FAILED if options.once and vitals.failed else ExitCode.OK


def _daemon(
    options: WatchOptions, disposal: Disposal, sink: Partitions, vitals: Vitals, wishes: Wishes, wakeup: Wakeup
) -> Daemon:
    clock = time.monotonic
    shared = options.labelling
    avoid = frozenset() if disposal.target is None else frozenset({str(disposal.target)})
    inbox = Inbox(shared.photos, WalkRules(shared.include, shared.exclude, avoid=avoid))
    rhythm = _rhythm(options, inbox)
    scanner = Scanner(inbox, rhythm.poll_s or rhythm.rescan_s, clock)
    tracker = Tracker(options.settle_s, clock)
    outlet = Outlet(sink, disposal, options.flush_s, clock, vitals)
    intake = Intake(inbox, scanner, tracker, sink, vitals, outlet.known)
    lookout = Lookout(inbox, scanner, intake, rhythm, vitals, wakeup.ring, clock)
    status_files = [shared.out / STATE_FOLDER / STATUS_NAME, *([options.status] if options.status else [])]
    reporter = Reporter(vitals, ServiceManager(), status_files, clock)

    def start_labeller() -> Labeller:
        request = run_request(shared)
        vitals.model = request.artifact.model_id
        labeller = Labeller(request.artifact, request.plan).__enter__()
        try:
            labeller.warm_up()
        except BaseException:
            labeller.close()
            raise
        return labeller

    return Daemon(
        lookout, scanner, tracker, intake, outlet, start_labeller, options.once, vitals, reporter, wakeup, wishes, clock
    )


def _rhythm(options: WatchOptions, inbox: Inbox) -> Rhythm:
    poll_s = options.poll_s
    if poll_s is None and inbox.is_on_network():
        poll_s = POLL_S
        logger.info("%s is a network share, which tells of no changes: polling", inbox.folder)
    return Rhythm(options.rescan_s, poll_s, options.once)


def _disposal(options: WatchOptions) -> Disposal:
    inbox = options.labelling.photos.resolve()
    kind, _, place = options.done.partition(":")
    if options.done in ("keep", "delete"):
        return Disposal(inbox, delete=options.done == "delete")
    if kind != "move" or not place:
        raise UsageError(f"--done {options.done}: keep, delete or move:DIR")
    target = Path(place).resolve()
    if target == inbox or target in inbox.parents:
        raise UsageError(f"--done {options.done}: the inbox lies in that folder; choose another")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target} cannot be made: {error.strerror or error}") from error
    return Disposal(inbox, target=target)


def _refuse_nesting(inbox: Path, labels: Path) -> None:
    if inbox == labels or inbox in labels.parents or labels in inbox.parents:
        raise UsageError("the labels and the inbox must not lie in each other; choose a folder beside the inbox")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--metrics {text}: write HOST:PORT, as in 127.0.0.1:9108")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _signals(wishes: Wishes, wakeup: Wakeup) -> Iterator[None]:
    """Turn signals into wishes; a second SIGTERM or Ctrl-C does not wait for what is in flight."""

    def stop(number: int, _: FrameType | None) -> None:
        if wishes.stop:
            raise Interrupted(number)
        wishes.stop = True
        wakeup.ring()

    def reload(_number: int, _frame: FrameType | None) -> None:
        wishes.reload = True
        wakeup.ring()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
