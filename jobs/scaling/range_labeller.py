"""Labels one range after the other with the processes of one machine, each range into its part."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.labelling.label_folder import LabelRequest, model_of, photos_of, plan_of, run_request_of
from jobs.scaling.parts import Parts, parts_at
from jobs.scaling.range_plan import PLAN_NAME, PlannedRange, RangePlan, cut, parsed_plan
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, LockedError, UsageError
from pipeline.labeller import Labeller
from pipeline.records import RunSummary
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest
from pipeline.sources.arguments import refuse_missing_client_of, refuse_missing_photos
from pipeline.sources.store_listing import UnsortedListingError
from pipeline.sources.store_url import Place
from pipeline.sources.stored_photos import source_at
from pipeline.tables.source import source_of


@dataclass(frozen=True, slots=True)
class PartsRequest:
    """Bring the parts at `parts` up to date, each of about `photos_per_part` photos."""

    labelling: LabelRequest
    parts: Place
    photos_per_part: int


class RangeLabeller:
    """Runs for ranges, with one labeller that goes on from range to range."""

    def __init__(self, run_request: RunRequest, parts: Parts, labeller: Labeller) -> None:
        self._run_request = run_request
        self._parts = parts
        self._labeller = labeller
        self._is_readable = False

    @property
    def model_id(self) -> str:
        """The model's name and digest, as in rows."""
        return self._labeller.model_id

    def label(self, planned: PlannedRange, hooks: Hooks, takes_over: bool = False) -> RunSummary:
        """Bring the part of a range up to date; with `takes_over`, also a part that another process has locked.

        Raises:
            LockedError: another process writes the part, or has replaced it meanwhile.
            Other errors are those of `pipeline.run.run`.
        """
        with self._parts.opened(planned.part_name) as path:
            part = replace(
                self._run_request,
                out=path,
                names=planned.names,
                is_listing_sorted=planned.is_listing_sorted,
                is_readable=self._is_readable,
            )
            try:
                summary = run(part, hooks, self._labeller)
            except LockedError:
                if not takes_over:
                    raise
                with tempfile.TemporaryDirectory(prefix="label-dir-") as scratch:
                    # Of two processes with equal rows, the later replaces the part as a whole.
                    summary = run(replace(part, state=Path(scratch) / "state"), hooks, self._labeller)
        self._is_readable = self._is_readable or bool(summary.labelled or summary.kept)
        return summary


@contextlib.contextmanager
def range_labeller(request: PartsRequest) -> Iterator[RangeLabeller]:
    """Give a labeller of ranges, whose processes run until the block ends.

    Raises:
        InputMissingError: the photos or the model are missing.
        UsageError: a URL needs what is not installed. Other errors are those of the model cache.
    """
    labelling = request.labelling
    refuse_missing_arguments(request)
    artifact = model_of(labelling)
    plan = plan_of(labelling.options, artifact)
    # Before anything is asked of a store: a process that has used one must not be forked.
    with Labeller(artifact, plan, source_at(labelling.photos)) as labeller:
        yield RangeLabeller(run_request_of(labelling, artifact, plan), parts_at(request.parts), labeller)


def refuse_missing_arguments(request: PartsRequest) -> None:
    """Check what can be checked without asking a store. Raises InputMissingError and UsageError."""
    refuse_missing_photos(request.labelling.photos)
    refuse_missing_client_of(request.parts)


def agreed_plan(request: PartsRequest) -> RangePlan:
    """Return the recorded plan; without one, cut the listing and record the cuts, unless another process was first.

    Raises:
        UsageError: the place holds parts of other photos, or something else.
        InputMissingError: the photos or the plan cannot be read.
        OutputError: the place cannot be written.
    """
    labelling, parts = request.labelling, parts_at(request.parts)
    told = terminal_text(f"{request.parts}/{PLAN_NAME}")
    photos = source_of(labelling.photos, Path(PLAN_NAME)).photos
    content = parts.small_file(PLAN_NAME)
    if content is None:
        content = parts.created(PLAN_NAME, _cut_listing(labelling, photos, request.photos_per_part).to_json())
    plan = parsed_plan(content, told)
    if plan.photos != photos and not (labelling.adopt or labelling.fresh):
        raise UsageError(
            f"{terminal_text(str(request.parts))} holds parts of {terminal_text(plan.photos)}, not of "
            f"{terminal_text(photos)}; choose another place, or, if the photos were moved, continue with --adopt"
        )
    return plan


def _cut_listing(labelling: LabelRequest, photos: str, photos_per_part: int) -> RangePlan:
    def cut_listing(is_sorted: bool) -> RangePlan:
        return cut(photos_of(labelling, is_sorted), photos, photos_per_part, is_sorted)

    try:
        return cut_listing(is_sorted=True)
    except UnsortedListingError:
        return cut_listing(is_sorted=False)
    except OSError as error:
        raise InputMissingError(f"{labelling.photos} cannot be listed: {error.strerror}") from error


def sum_of(summaries: Sequence[RunSummary], out: str) -> RunSummary:
    """Return the sum of the counts and times of ranges."""
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
        unsure=sum(summary.unsure for summary in summaries),
        kept_failed_by_class=dict(kept_failed.most_common()),
    )
