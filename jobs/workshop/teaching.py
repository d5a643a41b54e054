"""What `label-models teach` does: decode, teach, quantize, certify, and only then put the model in its place."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.workshop.teaching_build import BuiltModel, built, may_replace, put_in_place
from jobs.workshop.teaching_files import labelled_files
from jobs.workshop.teaching_photos import DecodedPhotos, decoded
from jobs.workshop.teaching_stop import TeachingStop
from models.certification.certificate import Certificate
from models.certification.certify import Terms
from models.errors import UsageError
from models.manifest import cache_folder, read_manifest
from models.model_lock import model_lock
from models.quantization.agreement import Logits
from models.system.isolated_call import Notify, isolated_call
from models.teaching.figures import Figures, figures
from models.teaching.lesson import Lesson, TeachRequest, list_digest
from models.teaching.memory_file import Remembered, known_rows, memory_path, read_memory
from models.teaching.photo_set import UNKNOWN, PhotoSet, Rows
from models.zoo import SPECS, find_weights
from pipeline.system.cpus import this_machine, usable_cores

# Of the minutes, kept for judging, building and certifying when training runs late.
SHARE_AFTER_TRAINING = 0.15
# More new photos than this share of all, and the network itself is taught again, not its head alone.
MOST_NEW = 0.1


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What the command line asked for; paths as they were given, None where they were not.

    With `epochs` training takes as long as it takes; those and `bfloat16` are for measuring.
    """

    folder: Path
    name: str
    base: str
    minutes: float
    seed: int
    precision: float
    terms: Terms
    memory_mb: float = 2000.0
    labels: Path | None = None
    reviews: Path | None = None
    held_out: Path | None = None
    unknown: Path | None = None
    fresh: bool = False
    is_quantization_aware: bool = False
    epochs: float | None = None
    bfloat16: bool | None = None


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """A model that is in its place, and what is known of it; `before` is what the model before was like, if any.

    `int8` float32 [judged, classes] are calibrated logits of the photos kept out, whose rows are `judged`.
    """

    decoded: DecodedPhotos
    lesson: Lesson
    certificate: Certificate
    judged: Rows
    int8: Logits
    figures: Figures
    before: Remembered | None
    is_in_place: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class _Scratch:
    pixels: Path
    checkpoint: Path
    stop_file: Path


def teach_model(
    options: TeachOptions, notify: Notify, on_photo: Callable[[int, int], None], stop: TeachingStop | None = None
) -> TaughtModel:
    """Teach a model and put it into the cache under its name; the one before stays until then, whatever happens.

    Raises LabelDirError.
    """
    started_s = time.monotonic()
    if options.base not in SPECS:
        raise UsageError(f"there is no base {options.base}: {', '.join(SPECS)}")
    find_weights(SPECS[options.base].weights)
    cores = usable_cores(this_machine())
    files, unlabelled = labelled_files(
        options.folder, options.labels, options.held_out, options.unknown, options.reviews
    )
    with model_lock(options.name, notify), _scratch(options.name) as scratch:
        if stop is not None:
            stop.file = scratch.stop_file
            notify, on_photo = stop.watching(notify), stop.counting(on_photo)
        tell_of_another(options.name, notify)
        side = SPECS[options.base].preprocessing.crop.resize_size
        found = decoded(files, unlabelled, scratch.pixels, side, cores, on_photo)
        request = _request_of(options, found.photos, scratch, _deadline_s(options, started_s), cores)
        lesson = isolated_call(_teach, notify, request)
        told = _told(options, found.photos, lesson)
        model = built(options.name, options.base, scratch.checkpoint, options.terms, found.photos, lesson, told, notify)
        is_better = may_replace(model, found.photos, request.remembered, not scratch.stop_file.exists())
        if is_better:
            put_in_place(model, found.photos, lesson)
    return _taught_model(found, lesson, model, request.remembered, is_better, time.monotonic() - started_s)


def _request_of(
    options: TeachOptions, photos: PhotoSet, scratch: _Scratch, deadline_s: float, threads: int
) -> TeachRequest:
    """Return what the process that teaches is asked for; a model taught before only learns what is new, if it can."""
    remembered, weights = (None, None) if options.fresh else _taught_before(options, photos)
    return TeachRequest(
        base=options.base,
        photos=photos,
        minutes=options.minutes,
        deadline_s=deadline_s,
        threads=threads,
        seed=options.seed,
        precision=options.precision,
        checkpoint=scratch.checkpoint,
        stop_file=scratch.stop_file,
        memory_mb=options.memory_mb,
        is_quantization_aware=options.is_quantization_aware,
        epochs=options.epochs,
        bfloat16=options.bfloat16,
        remembered=remembered,
        weights=weights,
    )


def _deadline_s(options: TeachOptions, started_s: float) -> float:
    if options.epochs is not None:
        return math.inf
    return started_s + 60 * options.minutes * (1 - SHARE_AFTER_TRAINING)


def _teach(notify: Notify, request: TeachRequest) -> Lesson:
    # Imports torch, which this module must not: without torch the command says so in a sentence.
    from models.teaching.teach import teach

    return teach(notify, request)


def _taught_model(
    found: DecodedPhotos,
    lesson: Lesson,
    model: BuiltModel,
    before: Remembered | None,
    is_in_place: bool,
    seconds: float,
) -> TaughtModel:
    photos = found.photos
    known = photos.classes[~lesson.held_out]
    return TaughtModel(
        decoded=found,
        lesson=lesson,
        certificate=model.result.certificate,
        judged=model.judged,
        int8=model.int8,
        figures=figures(
            photos.labels,
            model.int8,
            photos.classes[model.judged],
            known[known != UNKNOWN],
            lesson.min_probability,
        ),
        before=before,
        is_in_place=is_in_place,
        seconds=seconds,
    )


def tell_of_another(name: str, notify: Notify) -> None:
    """Say that a model of this name which was built otherwise, by import for example, is to be replaced."""
    if read_manifest(name) is not None and read_memory(memory_path(name)) is None:
        notify(f"the model {name} that is there was not taught; it is replaced when the new one is finished")


def _taught_before(options: TeachOptions, photos: PhotoSet) -> tuple[Remembered | None, Path | None]:
    """What is remembered of the model, and its weights if teaching the head alone will do."""
    receipt, remembered = read_manifest(options.name), read_memory(memory_path(options.name))
    if receipt is None or remembered is None:
        return None, None
    if remembered.fp32 != receipt.fp32 or remembered.base != options.base:
        return None, None
    known, _ = known_rows(photos.digests, remembered)
    is_little = len(photos.names) - len(known) <= MOST_NEW * len(photos.names)
    weights = cache_folder() / receipt.state
    return remembered, weights if is_little and weights.is_file() else None


def _told(options: TeachOptions, photos: PhotoSet, lesson: Lesson) -> dict[str, Any]:
    """What the artifact says of its teaching."""
    known = photos.classes != UNKNOWN
    judged = lesson.held_out & known
    right = lesson.logits[judged].argmax(axis=1) == photos.classes[judged] if judged.any() else None
    return {
        "base": options.base,
        "photos_taught": int((known & ~lesson.held_out).sum()),
        "photos_held_out": int(judged.sum()),
        "photos_unknown": int((~known).sum()),
        "photos_sha256": list_digest(photos, lesson.held_out),
        "seed": options.seed,
        "minutes": options.minutes,
        "epochs": round(lesson.epochs, 2),
        "only_head": lesson.only_head,
        "quantization_aware": options.is_quantization_aware and not lesson.only_head,
        "activations_computed_twice": lesson.recomputes,
        "temperature": round(lesson.temperature, 4),
        "precision": options.precision,
        "min_probability": lesson.min_probability,
        "min_familiarity": round(lesson.min_familiarity, 6),
        "fp32_top1": None if right is None else round(float(right.mean()), 4),
    }


@contextmanager
def _scratch(name: str) -> Iterator[_Scratch]:
    """Files that last as long as the teaching; what a killed one left of the model is removed, too."""
    folder = cache_folder()
    files = _Scratch(folder / f".{name}.pixels", folder / f".{name}.pth", folder / f".{name}.stop")
    # A killed teaching may have left it, and it would stop this one.
    files.stop_file.unlink(missing_ok=True)
    ours = re.compile(re.escape(name) + r"-(int8|fp32|torch|calibration)-[0-9a-f]{12}\.(onnx|pt|json)")
    try:
        yield files
    finally:
        receipt = read_manifest(name)
        kept = receipt.files if receipt else set()
        for path in folder.iterdir():
            is_left_over = ours.fullmatch(path.name) is not None and path.name not in kept
            if is_left_over or path in (files.pixels, files.checkpoint, files.stop_file):
                path.unlink(missing_ok=True)
