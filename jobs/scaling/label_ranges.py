"""Labels photos range by range, each into a part of its own: all ranges, or the share of this process."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.cli.progress import ProgressBar
from jobs.cli.signals import StopSignals
from jobs.labelling.label_folder import LabelRequest, model_of, plan_of, run_request_of
from jobs.scaling.parts import Parts, parts_at
from jobs.scaling.range_plan import PLAN_NAME, RangePlan, cut, parsed_plan
from jobs.scaling.shard import Shard
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, LockedError, UsageError
from pipeline.labeller import Labeller
from pipeline.records import RunSummary
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest
from pipeline.sources.arguments import refuse_missing_client_of, refuse_missing_photos
from pipeline.sources.source import Source
from pipeline.sources.store_listing import UnsortedListingError
from pipeline.sources.store_url import Place
from pipeline.sources.stored_photos import source_at
from pipeline.sources.walk import WalkCounts
from pipeline.tables.source import source_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RangesRequest:
    """Bring the parts at `parts` up to date: those of `shard`, each of about `photos_per_part` photos."""

    labelling: LabelRequest
    parts: Place
    shard: Shard
    photos_per_part: int


def label_ranges(request: RangesRequest) -> RunSummary:
    """Run `request` with a progress bar and signals, and return the sum of the counts of its ranges.

    Raises:
        UsageError: the place holds parts of other photos, or something else.
        LockedError: other processes have replaced parts meanwhile; all other parts are up to date.
        Other errors are those of `pipeline.run.run` and of the model cache.
    """
    labelling = request.labelling
    refuse_missing_photos(labelling.photos)
    refuse_missing_client_of(request.parts)
    artifact = model_of(labelling)
    plan = plan_of(labelling.options, artifact)
    with contextlib.ExitStack() as stack:
        # Before anything is asked of a store: a process that has used one must not be forked.
        labeller = stack.enter_context(Labeller(artifact, plan, source_at(labelling.photos)))
        signals = stack.enter_context(StopSignals())
        bar = ProgressBar("images", not labelling.quiet)
        stack.callback(bar.close)
        run_request = run_request_of(labelling, artifact, plan)
        parts = parts_at(request.parts)
        ranges = _agreed_plan(request, run_request, parts)
        return _labelled(request, run_request, ranges, parts, labeller, _hooks(bar, signals))


def _hooks(bar: ProgressBar, signals: StopSignals) -> Hooks:
    labelled = 0

    def count(*_: object) -> None:
        nonlocal labelled
        labelled += 1
        bar.show(labelled, None)

    return Hooks(on_row=count, stop_requested=signals.requested)


def _labelled(
    request: RangesRequest,
    run_request: RunRequest,
    plan: RangePlan,
    parts: Parts,
    labeller: Labeller,
    hooks: Hooks,
) -> RunSummary:
    summaries: list[RunSummary] = []
    lost: list[LockedError] = []
    for index, names in enumerate(plan.ranges()):
        if not request.shard.has(index):
            continue
        try:
            with parts.opened(f"part-{index:05d}.parquet") as path:
                is_readable = any(summary.labelled or summary.kept for summary in summaries)
                part = replace(
                    run_request,
                    out=path,
                    names=names,
                    is_listing_sorted=plan.is_sorted,
                    is_readable=is_readable,
                )
                summaries.append(run(part, hooks, labeller))
        except LockedError as error:
            # The other process labels the same photos; this one goes on with the ranges that are its own.
            logger.warning("%s", error)
            lost.append(error)
    if lost:
        raise LockedError(f"{len(lost)} of the parts are being written by another process")
    return _sum(summaries, str(request.parts))


def _agreed_plan(request: RangesRequest, run_request: RunRequest, parts: Parts) -> RangePlan:
    """Return the recorded plan; without one, cut the listing and record the cuts, unless another process was first."""
    labelling = request.labelling
    told = terminal_text(f"{request.parts}/{PLAN_NAME}")
    photos = source_of(labelling.photos, Path(PLAN_NAME)).photos
    content = parts.small_file(PLAN_NAME)
    if content is None:
        content = parts.created(PLAN_NAME, _cut_listing(run_request, photos, request.photos_per_part).to_json())
    plan = parsed_plan(content, told)
    if plan.photos != photos and not (labelling.adopt or labelling.fresh):
        raise UsageError(
            f"{terminal_text(str(request.parts))} holds parts of {terminal_text(plan.photos)}, not of "
            f"{terminal_text(photos)}; choose another place, or, if the photos were moved, continue with --adopt"
        )
    return plan


def _cut_listing(run_request: RunRequest, photos: str, photos_per_part: int) -> RangePlan:
    def cut_from(source: Source, is_sorted: bool) -> RangePlan:
        return cut(source.list(run_request.walk_rules, WalkCounts()), photos, photos_per_part, is_sorted)

    source = run_request.source
    try:
        return cut_from(source, True)
    except UnsortedListingError:
        return cut_from(source.sorted_first(), False)
    except OSError as error:
        raise InputMissingError(f"{run_request.photos} cannot be listed: {error.strerror}") from error


def _sum(summaries: Sequence[RunSummary], out: str) -> RunSummary:
    failed: Counter[str] = Counter()
    kept_failed: Counter[str] = Counter()
    for summary in summaries:
        failed.update(summary.failed_by_class)
        kept_failed.update(summary.kept_failed_by_class)
    return RunSummary(
        labelled=sum(summary.labelled for summary in summaries),
        kept=sum(summary.kept for summary in summaries),
        failed=failed.total(),
        failed_by_class=dict(failed.most_common()),
        skipped=sum(summary.skipped for summary in summaries),
        skipped_links=sum(summary.skipped_links for summary in summaries),
        unreadable_folders=max((summary.unreadable_folders for summary in summaries), default=0),
        removed=sum(summary.removed for summary in summaries),
        elapsed_s=sum(summary.elapsed_s for summary in summaries),
        labelling_s=sum(summary.labelling_s for summary in summaries),
        out=out,
        copied=sum(summary.copied for summary in summaries),
        kept_failed_by_class=dict(kept_failed.most_common()),
    )
