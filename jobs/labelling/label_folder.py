"""A request to label a folder -> a run: model, plan, progress and signals."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.options import LabellingOptions
from jobs.cli.progress import ProgressBar
from jobs.cli.signals import StopSignals
from models.artifact import Artifact
from models.cache import ensure_artifact
from pipeline.errors import UsageError
from pipeline.gone_guard import DEFAULT_GONE_LIMIT, GoneLimit
from pipeline.labeller import Labeller, LabellerPlan
from pipeline.planning.plan import Settings, plan_for
from pipeline.planning.tuning_cache import read_tuned, tuned_path
from pipeline.records import FileRef, RunSummary
from pipeline.sources.arguments import checked_out, refuse_missing_photos
from pipeline.sources.read_file import ReadLimits
from pipeline.sources.store_url import Place
from pipeline.sources.stored_photos import source_at
from pipeline.sources.walk import WalkCounts, WalkRules
from pipeline.system.cpus import this_machine

if TYPE_CHECKING:
    from pipeline.run_request import RunRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """Label the photos below `photos`, a folder or a URL, into `out`; `fresh` labels unchanged ones again.

    `adopt` continues the table of a folder that was moved; `max_gone` bounds how many rows may be removed.
    """

    photos: Place
    out: Path
    options: LabellingOptions
    quiet: bool = False
    fresh: bool = False
    adopt: bool = False
    max_gone: GoneLimit = DEFAULT_GONE_LIMIT


def label_dir(request: LabelRequest) -> RunSummary:
    """Run `request` with a progress bar and signals; raises what `pipeline.run.run` and the model cache raise."""
    refuse_wrong_arguments(request)
    artifact = model_of(request)
    plan = plan_of(request.options, artifact)
    progress = _Progress(request)
    with contextlib.ExitStack() as stack:
        # A first run certainly has photos to label: its processes start while this one imports Arrow.
        labeller = _first_labeller(request, artifact, plan, stack)
        from pipeline.run import run
        from pipeline.run_request import Hooks

        signals = stack.enter_context(StopSignals())
        stack.callback(progress.bar.close)
        hooks = Hooks(progress.begin, lambda _, kept: progress.advance(kept), signals.requested)
        return run(run_request_of(request, artifact, plan), hooks, labeller)


def refuse_wrong_arguments(request: LabelRequest) -> None:
    """Find what is wrong with the folder or the table before a model is built, which may take a minute.

    Raises:
        UsageError: OUT has no known ending, or, without `fresh`, holds something else or the labels of another folder.
        InputMissingError: PHOTOS is not a folder.
        OutputError: OUT cannot be written or read.
    """
    refuse_missing_photos(request.photos)
    out = checked_out(request.out)
    # Without `fresh` the table is read first in any case. With it, the run itself refuses a file that is no table, and
    # loading Arrow for that here would keep the processes from starting meanwhile.
    if out.exists() and not request.fresh:
        from pipeline.table_guard import refuse_unusable_table

        refuse_unusable_table(request.photos, request.out, request.options.topk, fresh=False, adopt=request.adopt)


def run_request(request: LabelRequest) -> RunRequest:
    """Return the run that `request` asks for, with its model built or found; raises what the model cache raises."""
    artifact = model_of(request)
    return run_request_of(request, artifact, plan_of(request.options, artifact))


def photos_of(request: LabelRequest, is_listing_sorted: bool = True) -> Iterator[FileRef]:
    """Yield the photos that `request` selects; raises as `Source.list` does."""
    options = request.options
    rules = WalkRules(options.include, options.exclude, options.follow_links)
    source = source_at(request.photos)
    return (source if is_listing_sorted else source.sorted_first()).list(rules, WalkCounts())


def settings_of(options: LabellingOptions, artifact: Artifact) -> Settings:
    """Return the part of the options that decides the plan, with the engine that was chosen for the artifact."""
    return Settings(
        batch_size=options.batch_size,
        workers=options.workers,
        pool=options.pool,
        threads=options.threads,
        top_k=options.topk,
        engine=artifact.engine,
        loader=options.loader,
        timeout_s=options.timeout,
        limits=ReadLimits(options.max_bytes, options.max_pixels, options.follow_links),
        min_probability=options.min_prob,
    )


def model_of(request: LabelRequest) -> Artifact:
    """Return the model that the request names, built or found; raises what the model cache raises."""
    return artifact_of(request.options, request.quiet)


def artifact_of(options: LabellingOptions, quiet: bool) -> Artifact:
    """Return the model that `options` name, built or found; raises what the model cache raises."""
    level = logging.INFO if quiet else logging.WARNING
    artifact = ensure_artifact(options.model, lambda notice: logger.log(level, "%s", notice), options.engine)
    if options.topk > len(artifact.labels):
        raise UsageError(f"--topk {options.topk}: the model {artifact.name} has {len(artifact.labels)} labels")
    return artifact


def _first_labeller(
    request: LabelRequest, artifact: Artifact, plan: LabellerPlan, stack: contextlib.ExitStack
) -> Labeller | None:
    """Start the labeller of a first run, which is closed with `stack`; None where there may be nothing to label."""
    is_first_run = request.fresh or not request.out.exists()
    return stack.enter_context(Labeller(artifact, plan, source_at(request.photos))) if is_first_run else None


def plan_of(options: LabellingOptions, artifact: Artifact) -> LabellerPlan:
    """Return the plan by `options`; what they leave open is as tuned on this machine, or else the default."""
    machine = this_machine()
    tuned = read_tuned(tuned_path(artifact.model_id, artifact.engine, machine))
    return plan_for(machine, settings_of(options, artifact), tuned)


def run_request_of(request: LabelRequest, artifact: Artifact, plan: LabellerPlan) -> RunRequest:
    """Return the run that `request` asks for, with this model and plan."""
    from pipeline.run_request import RunRequest

    options = request.options
    return RunRequest(
        photos=request.photos,
        out=request.out,
        artifact=artifact,
        plan=plan,
        include=options.include,
        exclude=options.exclude,
        follow_links=options.follow_links,
        fresh=request.fresh,
        adopt=request.adopt,
        gone_limit=request.max_gone,
    )


class _Progress:
    """Counts labelled photos for the bar; a second walk, beside the run, finds out how many files there are."""

    def __init__(self, request: LabelRequest) -> None:
        self.bar = ProgressBar("images", not request.quiet)
        self._request = request
        self._labelled = 0
        self._files: int | None = None

    def begin(self) -> None:
        if not self.bar.is_enabled:
            return
        self.bar.show(0, None)
        if not source_at(self._request.photos).is_remote:
            threading.Thread(target=self._count_files, daemon=True).start()

    def advance(self, kept: int) -> None:
        """Count one more photo, of a folder in which `kept` rows so far need no work."""
        self._labelled += 1
        self.bar.show(self._labelled, None if self._files is None else max(self._files - kept, self._labelled))

    def _count_files(self) -> None:
        # The total is an estimate: without it the bar only shows no time left.
        with contextlib.suppress(OSError):
            self._files = sum(1 for _ in photos_of(self._request))
