"""`label-dir --show-plan` prints the plan of a run on this machine, `--tune` finds the fastest plan."""

from __future__ import annotations

import logging
from itertools import islice

from jobs.labelling.label_folder import LabelRequest, model_of, photos_of, settings_of
from pipeline.errors import InputMissingError
from pipeline.planning.autotune import tune
from pipeline.planning.plan import explained
from pipeline.planning.tuning_cache import read_tuned, tuned_path, write_tuned
from pipeline.sources.stored_photos import source_at
from pipeline.system.cpus import this_machine

logger = logging.getLogger(__name__)

_PHOTOS_TO_TUNE_WITH = 2000


def tune_and_keep(request: LabelRequest) -> None:
    """Find the fastest plan for the user's photos on this machine and keep it for later runs.

    Raises:
        InputMissingError: there is no photo to try plans on.
        OutputError: the result cannot be written.
    """
    artifact, machine = model_of(request), this_machine()
    settings = settings_of(request.options, artifact)
    try:
        refs = list(islice(photos_of(request), _PHOTOS_TO_TUNE_WITH))
    except OSError as error:
        raise InputMissingError(f"{request.photos} cannot be listed: {error.strerror}") from error
    if not refs:
        raise InputMissingError(f"{request.photos} holds no photo to try plans on")
    level = logging.INFO if request.quiet else logging.WARNING
    source = source_at(request.photos)
    sizes = tune(artifact, machine, settings, refs, lambda sentence: logger.log(level, "%s", sentence), source)
    write_tuned(tuned_path(artifact.model_id, settings.engine, machine), sizes)


def plan_lines(request: LabelRequest) -> list[str]:
    """Return the lines that say which plan a run of `request` would use, and why."""
    artifact, machine = model_of(request), this_machine()
    settings = settings_of(request.options, artifact)
    path = tuned_path(artifact.model_id, settings.engine, machine)
    tuned = read_tuned(path)
    advice = f"kept in {path}" if tuned else "not tuned: label-dir --tune finds what is fastest with your photos"
    photo_bytes = artifact.preprocessing.crop.crop_size**2 * 3
    lines = explained(machine, settings, tuned, photo_bytes, source_at(request.photos).reads_ahead)
    return [f"model         {artifact.model_id}, engine {settings.engine}", *lines, f"tuning        {advice}"]
