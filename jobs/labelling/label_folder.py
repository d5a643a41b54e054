"""From a command's options to a run and back: model, plan, progress, signals."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.cli.progress import ProgressBar
from jobs.cli.signals import StopSignals
from models.artifact import Artifact
from models.cache import ensure_artifact
from pipeline.errors import UsageError
from pipeline.labeller import Labeller, LabellerPlan
from pipeline.loading.loader_kind import LoaderKind
from pipeline.planning.plan import Settings, plan_for
from pipeline.planning.tuning_cache import read_tuned, tuned_path
from pipeline.records import RunSummary
from pipeline.sources.read_file import ReadLimits
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import this_machine

if TYPE_CHECKING:
    from pipeline.run import RunRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelDirOptions:
    """The options of `label-dir`, by the names its help gives them."""

    photos: Path
    out: Path
    model: str
    quiet: bool
    batch_size: int | None
    workers: int | None
    pool: int | None
    threads: int | None
    topk: int
    engine: str
    loader: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    follow_links: bool
    fresh: bool
    timeout: float
    max_pixels: int
    max_bytes: int


def label_dir(options: LabelDirOptions) -> RunSummary:
    """Do what `label-dir` was asked; raises what `pipeline.run.run` and the model cache raise."""
    artifact = model_of(options)
    plan = _plan(options, artifact)
    bar = ProgressBar(not options.quiet, lambda: _count(options))
    with contextlib.ExitStack() as stack:
        # Where there is surely work, processes load what they need while this one imports Arrow.
        labeller = stack.enter_context(Labeller(artifact, plan)) if _is_first_run(options) else None
        from pipeline.run import Hooks, run

        signals = stack.enter_context(StopSignals())
        stack.callback(bar.end)
        hooks = Hooks(bar.begin, lambda _, kept: bar.advance(kept), signals.requested)
        return run(_request(options, artifact, plan), hooks, labeller)


def run_request(options: LabelDirOptions) -> RunRequest:
    """Return the run that `options` ask for, with its model built or found; raises what the model cache raises."""
    artifact = model_of(options)
    return _request(options, artifact, _plan(options, artifact))


def _is_first_run(options: LabelDirOptions) -> bool:
    return (options.fresh or not options.out.exists()) and options.photos.is_dir()


def _plan(options: LabelDirOptions, artifact: Artifact) -> LabellerPlan:
    machine = this_machine()
    tuned = read_tuned(tuned_path(artifact.model_id, options.engine, machine))
    return plan_for(machine, settings_of(options), tuned)


def _request(options: LabelDirOptions, artifact: Artifact, plan: LabellerPlan) -> RunRequest:
    from pipeline.run import RunRequest

    return RunRequest(
        photos=options.photos,
        out=options.out,
        artifact=artifact,
        plan=plan,
        include=options.include,
        exclude=options.exclude,
        follow_links=options.follow_links,
        fresh=options.fresh,
    )


def settings_of(options: LabelDirOptions) -> Settings:
    """Return what the options say of the plan."""
    return Settings(
        batch_size=options.batch_size,
        workers=options.workers,
        pool=options.pool,
        threads=options.threads,
        top_k=options.topk,
        engine=options.engine,
        loader=LoaderKind(options.loader),
        timeout_s=options.timeout,
        limits=ReadLimits(options.max_bytes, options.max_pixels, options.follow_links),
    )


def model_of(options: LabelDirOptions) -> Artifact:
    """Return the model that the options name, built or found; raises what the model cache raises."""

    def notify(sentence: str) -> None:
        logger.log(logging.INFO if options.quiet else logging.WARNING, "%s", sentence)

    artifact = ensure_artifact(options.model, notify, options.engine)
    if options.topk > len(artifact.labels):
        raise UsageError(f"--topk {options.topk}: the model {artifact.name} has {len(artifact.labels)} labels")
    return artifact


def _count(options: LabelDirOptions) -> int:
    """Count the files of the folder; an estimate for a progress bar, so what cannot be listed does not matter."""
    rules = WalkRules(options.include, options.exclude, options.follow_links)
    try:
        return sum(1 for _ in walk(options.photos.resolve(), rules, WalkCounts()))
    except OSError:
        return 0
