"""Labels photos with the nodes of a Ray cluster: this process hands out ranges, the nodes label them into parts.

Only counts come back from a node. A node that says nothing for a while may never do so again, so its range is given to
another one, too; parts are published as a whole, and the node that comes later changes nothing.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.cli.logging_setup import log_result
from jobs.cli.progress import ProgressBar
from jobs.cli.signals import StopSignals
from jobs.scaling.range_labeller import PartsRequest, agreed_plan, refuse_missing_arguments, sum_of
from jobs.scaling.range_process import Alive, Done, Failed, News, Notice, Order, Ready, Stop
from jobs.scaling.range_queue import MOST_ATTEMPTS, Failure, RangeQueue
from jobs.scaling.ray_cluster import NodeLostError, RayCluster, connected
from pipeline.errors import ExitCode, Interrupted, LabelDirError, UsageError, WorkerDiedError
from pipeline.records import RunSummary

logger = logging.getLogger(__name__)

_WAIT_S = 1.0
_LOOK_FOR_NODES_S = 5.0
_MOST_STARTS = 3
# Another node, or the same one later, may succeed where one failed so.
_PASSING = {ExitCode.BUG, ExitCode.LOCKED}


@dataclass(slots=True)
class _Node:
    """One node of the cluster; `actor` is None while none runs there, `model_id` is empty until it is ready."""

    name: str
    cpus: int
    actor: Any = None
    call: Any = None
    model_id: str = ""
    at_work: int | None = None
    is_told_to_stop: bool = False
    heard_s: float = 0.0
    starts: int = 0
    earlier_photos: int = 0
    photos: int = 0
    ready_s: float = 0.0

    def rate(self) -> float:
        """Photos a second since the node was first ready."""
        return (self.earlier_photos + self.photos) / max(time.monotonic() - self.ready_s, 1e-9) if self.ready_s else 0.0


def label_on_ray(request: PartsRequest, address: str, late_s: float) -> RunSummary:
    """Label all ranges of `request` on the cluster at `address`; return the sum of their counts.

    A range is given to a second node when its own has been silent for `late_s`.

    Raises:
        UsageError: the nodes have different models; and what `label_ranges` raises, for the same reasons.
        InputMissingError: no cluster answers.
        WorkerDiedError: ranges, or all nodes, failed again and again; all other parts are up to date.
        Interrupted: a stop was asked for; what was labelled is published.
    """
    refuse_missing_arguments(request)
    request = _with_absolute_paths(request)
    began_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(connected(address))
        signals = stack.enter_context(StopSignals())
        bar = ProgressBar("images", not request.labelling.quiet)
        stack.callback(bar.close)
        job = _Job(cluster, request, late_s, signals, bar)
        # The nodes load their models meanwhile.
        job.start_nodes()
        job.run(RangeQueue(agreed_plan(request).ranges()))
    elapsed_s = time.monotonic() - began_s
    return replace(sum_of(job.summaries, str(request.parts)), elapsed_s=elapsed_s, labelling_s=job.labelling_s)


def _with_absolute_paths(request: PartsRequest) -> PartsRequest:
    labelling = request.labelling
    options = labelling.options
    if options.model.endswith(".onnx"):
        options = replace(options, model=str(Path(options.model).absolute()))
    photos = labelling.photos.absolute() if isinstance(labelling.photos, Path) else labelling.photos
    parts = request.parts.absolute() if isinstance(request.parts, Path) else request.parts
    return replace(request, labelling=replace(labelling, photos=photos, options=options), parts=parts)


class _Job:
    """Nodes and the ranges that they label."""

    def __init__(
        self, cluster: RayCluster, request: PartsRequest, late_s: float, signals: StopSignals, bar: ProgressBar
    ) -> None:
        self._cluster = cluster
        self._request = request
        self._late_s = late_s
        self._signals = signals
        self._bar = bar
        self._queue = RangeQueue(())
        self._nodes: dict[str, _Node] = {}
        self._looked_s = -_LOOK_FOR_NODES_S
        self._working_s = time.monotonic()
        self._last_loss = "it has none that offers CPUs"
        self.summaries: list[RunSummary] = []
        self.labelling_s = 0.0

    def run(self, queue: RangeQueue) -> None:
        """Have all ranges labelled; raises as `label_on_ray` does."""
        self._queue = queue
        while not queue.is_finished:
            self.start_nodes()
            self._send_orders()
            self._hear()
            self._find_late_ranges()
            self._show_progress()
            self._end_if_stopped()
        self._report_nodes()
        self._cluster.close([node.actor for node in self._nodes.values() if node.actor and node.at_work is None])
        self._refuse_given_up_ranges()

    def start_nodes(self) -> None:
        """Start an actor on each node that has none, a bounded number of times. Raises WorkerDiedError without any."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_FOR_NODES_S:
            return
        self._looked_s = now_s
        for node_id, facts in self._cluster.nodes().items():
            node = self._nodes.setdefault(node_id, _Node(facts.address, facts.cpus))
            if node.actor is None and node.starts < _MOST_STARTS:
                node.starts += 1
                node.actor = self._cluster.start(node_id, node.cpus, self._request)
                node.heard_s = now_s
        if any(node.actor for node in self._nodes.values()):
            self._working_s = now_s
        elif now_s - self._working_s > self._late_s:
            raise WorkerDiedError(f"no node of the Ray cluster can work: {self._last_loss}")

    def _send_orders(self) -> None:
        for node_id, node in self._nodes.items():
            if node.actor is None or node.call is not None:
                continue
            order: Order | None = None
            if self._signals.requested():
                order = None if node.is_told_to_stop else Stop()
                node.is_told_to_stop = True
            elif node.model_id and node.at_work is None:
                order = planned = self._queue.take(node_id)
                node.at_work = planned.index if planned else None
            node.call = self._cluster.exchange(node.actor, order)

    def _hear(self) -> None:
        calls = {node.call: node_id for node_id, node in self._nodes.items() if node.call is not None}
        if not calls:
            time.sleep(_WAIT_S)
            return
        for call in self._cluster.finished(list(calls), _WAIT_S):
            node_id = calls[call]
            self._nodes[node_id].call = None
            try:
                news = self._cluster.answer(call)
            except NodeLostError as error:
                news = [Failed(None, Failure(str(error)))]
            if news:
                self._nodes[node_id].heard_s = time.monotonic()
            for item in news:
                self._take(node_id, item)

    def _take(self, node_id: str, news: News) -> None:
        node = self._nodes[node_id]
        match news:
            case Ready(model_id):
                self._refuse_another_model(node, model_id)
                node.model_id = model_id
                node.ready_s = node.ready_s or time.monotonic()
            case Alive(photos):
                node.photos = photos
            case Notice(text):
                logger.warning("%s: %s", node.name, text)
            case Done(index, summary):
                node.at_work = None
                if summary.is_cut_short:
                    self._queue.note_failed(index, node_id, Failure("the run was stopped"))
                elif self._queue.note_done(index):
                    self.summaries.append(summary)
            case Failed(index, failure):
                self._take_failure(node_id, index, failure)

    def _take_failure(self, node_id: str, index: int | None, failure: Failure) -> None:
        node = self._nodes[node_id]
        failed = node.at_work if index is None else index
        if failure.exit_code not in _PASSING:
            raise _error_of(node.name, failure)
        if index is None:
            logger.warning("%s was lost: %s", node.name, failure.reason)
            self._last_loss = f"{node.name}: {failure.reason}"
            self._cluster.kill(node.actor)
            node.actor, node.call, node.model_id = None, None, ""
            node.earlier_photos, node.photos = node.earlier_photos + node.photos, 0
        node.at_work = None
        if failed is not None:
            self._queue.note_failed(failed, node_id, replace(failure, reason=f"{node.name}: {failure.reason}"))

    def _refuse_another_model(self, node: _Node, model_id: str) -> None:
        for other in self._nodes.values():
            if other.model_id and other.model_id != model_id:
                raise UsageError(
                    f"the nodes have different models, {other.model_id} on {other.name} and {model_id} on {node.name}: "
                    "install the same version of label-dir and the same model on all"
                )

    def _find_late_ranges(self) -> None:
        now_s = time.monotonic()
        for node_id, node in self._nodes.items():
            is_silent = now_s - node.heard_s > self._late_s
            if is_silent and node.at_work is not None and self._queue.note_late(node.at_work, node_id):
                logger.warning(
                    "%s has been silent for %.0f s: its range is given to another node, too", node.name, self._late_s
                )

    def _show_progress(self) -> None:
        nodes = [node for node in self._nodes.values() if node.ready_s]
        first_s = min((node.ready_s for node in nodes), default=0.0)
        self.labelling_s = time.monotonic() - first_s if nodes else 0.0
        note = ", ".join(f"{node.name} {node.rate():.0f}/s" for node in nodes)
        self._bar.show(sum(node.earlier_photos + node.photos for node in nodes), None, note)

    def _report_nodes(self) -> None:
        for node in self._nodes.values():
            photos, rate = node.earlier_photos + node.photos, node.rate()
            log_result(f"{node.name}: {photos} photos ({rate:.0f} images/s)", node=node.name, photos=photos)

    def _end_if_stopped(self) -> None:
        number = self._signals.requested()
        now_s = time.monotonic()
        is_any_at_work = any(
            node.at_work is not None and now_s - node.heard_s <= self._late_s for node in self._nodes.values()
        )
        if number and not is_any_at_work:
            raise Interrupted(number)

    def _refuse_given_up_ranges(self) -> None:
        given_up = self._queue.given_up.values()
        for failure in sorted(given_up, key=lambda failure: failure.exit_code):
            told = f"{len(given_up)} ranges were given up after {MOST_ATTEMPTS} attempts each, the first"
            raise _error_of(told, failure)


def _error_of(told: str, failure: Failure) -> LabelDirError:
    error = LabelDirError(f"{told}: {failure.reason}")
    error.exit_code = ExitCode(failure.exit_code)
    if failure.trace:
        error.add_note(failure.trace)
    return error
