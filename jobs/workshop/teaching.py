"""What `label-models teach` does: decode, teach, quantize, certify, and only then put the model in its place."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.workshop.teaching_photos import DecodedPhotos, decoded, labelled_files
from models.artifact import read_artifact
from models.build_steps import Int8Request, prepare_int8
from models.certification.certificate import LARGEST_ARITHMETIC_ERROR, Certificate, read_certificate, write_certificate
from models.certification.certify import Terms
from models.errors import InputMissingError, UsageError
from models.manifest import Manifest, cache_folder, certificate_path, read_manifest, write_manifest
from models.model_lock import model_lock
from models.quantization.agreement import Logits, logits_of
from models.quantization.calibration_table import Calibration
from models.samples import Photos
from models.system.isolated_call import Notify, isolated_call
from models.teaching.artifacts import Taught, prepare_taught
from models.teaching.figures import Figures, figures
from models.teaching.memory_file import Remembered, known_rows, memory_path, read_memory, write_memory
from models.teaching.photo_set import UNKNOWN, PhotoSet, Rows
from models.teaching.teach import MOST_NEW, Lesson, TeachRequest, list_digest, teach
from models.zoo import SPECS, find_weights
from pipeline.system.cpus import this_machine, usable_cores

CALIBRATION_PHOTOS = 128
CALIBRATION_SEED = 11
# Of the minutes, kept for judging, building and certifying when training runs late.
SHARE_AFTER_TRAINING = 0.15


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What the command line asked for; paths as they were given, None where they were not."""

    folder: Path
    name: str
    base: str
    minutes: float
    seed: int
    precision: float
    terms: Terms
    memory_mb: float = 2000.0
    labels: Path | None = None
    held_out: Path | None = None
    unknown: Path | None = None
    fresh: bool = False


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


def teach_model(options: TeachOptions, notify: Notify, on_photo: Callable[[int, int], None]) -> TaughtModel:
    """Teach a model and put it into the cache under its name; the one before stays until then, whatever happens.

    Raises LabelDirError.
    """
    started_s = time.monotonic()
    if options.base not in SPECS:
        raise UsageError(f"there is no base {options.base}: {', '.join(SPECS)}")
    find_weights(SPECS[options.base].weights)
    cores = usable_cores(this_machine())
    files, unlabelled = labelled_files(options.folder, options.labels, options.held_out, options.unknown)
    with model_lock(options.name, notify), _scratch(options.name) as scratch:
        side = SPECS[options.base].preprocessing.crop.resize_size
        found = decoded(files, unlabelled, scratch.pixels, side, cores, on_photo)
        remembered, weights = (None, None) if options.fresh else _taught_before(options, found.photos)
        request = TeachRequest(
            base=options.base,
            photos=found.photos,
            minutes=options.minutes,
            deadline_s=started_s + 60 * options.minutes * (1 - SHARE_AFTER_TRAINING),
            threads=cores,
            seed=options.seed,
            precision=options.precision,
            checkpoint=scratch.checkpoint,
            memory_mb=options.memory_mb,
            remembered=remembered,
            weights=weights,
        )
        lesson = isolated_call(teach, notify, request)
        return _built(options, request, found, lesson, notify, started_s)


def _built(
    options: TeachOptions, request: TeachRequest, found: DecodedPhotos, lesson: Lesson, notify: Notify, started_s: float
) -> TaughtModel:
    photos, folder = found.photos, cache_folder()
    taught = Taught(
        options.name, options.base, request.checkpoint, photos.labels, lesson.means, _told(options, photos, lesson)
    )
    fp32, state = isolated_call(prepare_taught, notify, taught, folder)
    judged = np.flatnonzero(lesson.held_out & (photos.classes != UNKNOWN))
    held_out = _sample(photos, judged, f"{len(judged)} photos that were not taught") if len(judged) else None
    old = read_manifest(options.name)
    int8 = Int8Request(options.terms, _calibration_photos(photos, lesson), held_out, _known_ranges(old, lesson))
    result = isolated_call(prepare_int8, notify, folder, fp32, int8)
    logits = np.zeros((0, len(photos.labels)), np.float32)
    if held_out is not None:
        logits = isolated_call(_logits, notify, folder / result.int8, held_out, options.terms.threads)
    is_better = _is_right(result.certificate) or not _had_right_answers(old)
    if is_better:
        write_manifest(options.name, Manifest("", result.int8, fp32, state, result.calibration))
        write_certificate(certificate_path(read_artifact(folder / result.int8)), result.certificate)
        write_memory(memory_path(options.name), _memory(fp32, options, photos, lesson, judged, logits))
    known = photos.classes[~lesson.held_out]
    measured = figures(photos.labels, logits, photos.classes[judged], known[known != UNKNOWN], lesson.min_probability)
    return TaughtModel(
        decoded=found,
        lesson=lesson,
        certificate=result.certificate,
        judged=judged,
        int8=logits,
        figures=measured,
        before=request.remembered,
        is_in_place=is_better,
        seconds=time.monotonic() - started_s,
    )


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
        "temperature": round(lesson.temperature, 4),
        "precision": options.precision,
        "min_probability": lesson.min_probability,
        "min_familiarity": round(lesson.min_familiarity, 6),
        "fp32_top1": None if right is None else round(float(right.mean()), 4),
    }


def _calibration_photos(photos: PhotoSet, lesson: Lesson) -> Photos:
    rows = np.flatnonzero(~lesson.held_out)
    drawn = np.sort(np.random.default_rng(CALIBRATION_SEED).permutation(rows)[:CALIBRATION_PHOTOS])
    return _sample(photos, drawn, f"{len(drawn)} of the photos that were taught")


def _sample(photos: PhotoSet, rows: Rows, told: str) -> Photos:
    """The photos as the model sees them: the centres of the decoded squares."""
    crop = next(
        spec.preprocessing.crop.crop_size
        for spec in SPECS.values()
        if spec.preprocessing.crop.resize_size == photos.side
    )
    edge = (photos.side - crop) // 2
    pixels = photos.pixels(rows)[:, edge : edge + crop, edge : edge + crop]
    classes = photos.classes[rows]
    known = None if (classes == UNKNOWN).any() else classes
    return Photos(np.ascontiguousarray(pixels), told, tuple(photos.digests[row] for row in rows), known)


def _known_ranges(old: Manifest | None, lesson: Lesson) -> Calibration | None:
    """The activation ranges of the model before: where the head alone was taught, they are still right."""
    if old is None or not lesson.only_head:
        return None
    try:
        return Calibration.from_json((cache_folder() / old.calibration).read_text(encoding="utf-8"))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _is_right(certificate: Certificate) -> bool:
    """Whether int8 answers as fp32 does; how fast it is, which a busy machine may hide, does not matter here."""
    is_near = certificate.top1_agreement >= certificate.required_agreement
    return is_near and certificate.arithmetic_error <= LARGEST_ARITHMETIC_ERROR


def _had_right_answers(old: Manifest | None) -> bool:
    if old is None:
        return False
    try:
        certificate = read_certificate(certificate_path(read_artifact(cache_folder() / old.int8)))
    except InputMissingError:
        return False
    return certificate is not None and _is_right(certificate)


def _logits(notify: Notify, path: Path, photos: Photos, threads: int) -> Logits:
    return logits_of(path, photos.pixels, threads)


def _memory(
    fp32: str, options: TeachOptions, photos: PhotoSet, lesson: Lesson, judged: Rows, logits: Logits
) -> Remembered:
    answers = {
        photos.digests[row]: (photos.labels[photos.classes[row]], photos.labels[int(best)])
        for row, best in zip(judged.tolist(), logits.argmax(axis=1).tolist(), strict=True)
    }
    return Remembered(
        fp32=fp32,
        base=options.base,
        labels=photos.labels,
        digests=photos.digests,
        base_features=lesson.base_features,
        features=lesson.features,
        temperature=lesson.temperature,
        held_out=tuple(photos.digests[row] for row in np.flatnonzero(lesson.held_out)),
        answers=answers,
    )


@contextmanager
def _scratch(name: str) -> Iterator[_Scratch]:
    """Files that last as long as the teaching; what a killed one left of the model is removed, too."""
    folder = cache_folder()
    files = _Scratch(folder / f".{name}.pixels", folder / f".{name}.pth")
    ours = re.compile(re.escape(name) + r"-(int8|fp32|torch|calibration)-[0-9a-f]{12}\.(onnx|pt|json)")
    try:
        yield files
    finally:
        receipt = read_manifest(name)
        kept = receipt.files if receipt else set()
        for path in folder.iterdir():
            is_left_over = ours.fullmatch(path.name) is not None and path.name not in kept
            if is_left_over or path in (files.pixels, files.checkpoint):
                path.unlink(missing_ok=True)
