"""Labels photos range by range, each into a part of its own: all ranges, or the share of this process."""

from __future__ import annotations

import contextlib
import logging

from jobs.cli.progress import ProgressBar
from jobs.cli.signals import StopSignals
from jobs.scaling.range_labeller import PartsRequest, RangeLabeller, agreed_plan, range_labeller, sum_of
from jobs.scaling.range_plan import RangePlan
from jobs.scaling.shard import Shard
from pipeline.errors import LockedError
from pipeline.records import RunSummary
from pipeline.run_request import Hooks

logger = logging.getLogger(__name__)


def label_ranges(request: PartsRequest, shard: Shard) -> RunSummary:
    """Label the ranges of `shard` with a progress bar and signals, and return the sum of their counts.

    Raises:
        UsageError: the place holds parts of other photos, or something else.
        LockedError: other processes have replaced parts meanwhile; all other parts are up to date.
        Other errors are those of `pipeline.run.run` and of the model cache.
    """
    with contextlib.ExitStack() as stack:
        labeller = stack.enter_context(range_labeller(request))
        signals = stack.enter_context(StopSignals())
        bar = ProgressBar("images", not request.labelling.quiet)
        stack.callback(bar.close)
        return _labelled(request, agreed_plan(request), shard, labeller, _hooks(bar, signals))


def _hooks(bar: ProgressBar, signals: StopSignals) -> Hooks:
    labelled = 0

    def count(*_: object) -> None:
        nonlocal labelled
        labelled += 1
        bar.show(labelled, None)

    return Hooks(on_row=count, stop_requested=signals.requested)


def _labelled(
    request: PartsRequest, plan: RangePlan, shard: Shard, labeller: RangeLabeller, hooks: Hooks
) -> RunSummary:
    summaries: list[RunSummary] = []
    lost: list[LockedError] = []
    for planned in plan.ranges():
        if not shard.has(planned.index):
            continue
        try:
            summaries.append(labeller.label(planned, hooks))
        except LockedError as error:
            # The other process labels the same photos; this one goes on with the ranges that are its own.
            logger.warning("%s", error)
            lost.append(error)
    if lost:
        raise LockedError(f"{len(lost)} of the parts are being written by another process")
    return sum_of(summaries, str(request.parts))
