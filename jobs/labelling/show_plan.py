"""`label-dir --tune` and `--show-plan`: what a run on this machine would use, and finding what is best."""

from __future__ import annotations

import logging
from itertools import islice

from jobs.labelling.label_folder import LabelDirOptions, model_of, settings_of
from models.artifact import Artifact
from pipeline.errors import InputMissingError
from pipeline.planning.autotune import tune
from pipeline.planning.plan import explained
from pipeline.planning.tuning_cache import read_tuned, tuned_path, write_tuned
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import this_machine

logger = logging.getLogger(__name__)

_PHOTOS_TO_TUNE_WITH = 2000


def tune_and_keep(options: LabelDirOptions) -> None:
    """Find the fastest plan for the user's photos on this machine and keep it for later runs.

    Raises:
        InputMissingError: there is no photo to try plans on.
        OutputError: the result cannot be kept.
    """
    artifact, settings, machine = model_of(options), settings_of(options), this_machine()
    rules = WalkRules(options.include, options.exclude, options.follow_links)
    try:
        refs = list(islice(walk(options.photos.resolve(), rules, WalkCounts()), _PHOTOS_TO_TUNE_WITH))
    except OSError as error:
        raise InputMissingError(f"{options.photos} cannot be listed: {error.strerror}") from error
    if not refs:
        raise InputMissingError(f"{options.photos} holds no photo to try plans on")
    level = logging.INFO if options.quiet else logging.WARNING
    sizes = tune(artifact, machine, settings, refs, lambda sentence: logger.log(level, "%s", sentence))
    write_tuned(tuned_path(artifact.model_id, options.engine, machine), sizes)


def plan_lines(options: LabelDirOptions) -> list[str]:
    """Say what a run with these options would use, and why."""
    artifact, settings, machine = model_of(options), settings_of(options), this_machine()
    path = tuned_path(artifact.model_id, options.engine, machine)
    tuned = read_tuned(path)
    advice = f"kept in {path}" if tuned else "not tuned: label-dir --tune finds what is fastest with your photos"
    lines = explained(machine, settings, tuned, _photo_bytes(artifact))
    return [f"model         {artifact.model_id}, engine {settings.engine}", *lines, f"tuning        {advice}"]


def _photo_bytes(artifact: Artifact) -> int:
    return artifact.preprocessing.crop.crop_size**2 * 3
