"""A lesson -> the model's files, certified on photos that were not taught, and only then in their place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import read_artifact
from models.build_steps import Int8Request, Int8Result, prepare_int8
from models.certification.certificate import LARGEST_ARITHMETIC_ERROR, Certificate, read_certificate, write_certificate
from models.certification.certify import Terms
from models.errors import InputMissingError
from models.manifest import Manifest, cache_folder, certificate_path, read_manifest, write_manifest
from models.quantization.agreement import Logits, logits_of
from models.quantization.calibration_table import Calibration
from models.samples import Photos
from models.system.isolated_call import Notify, isolated_call
from models.teaching.artifacts import Taught, prepare_taught
from models.teaching.lesson import Lesson
from models.teaching.memory_file import Remembered, memory_path, write_memory
from models.teaching.photo_set import UNKNOWN, PhotoSet, Rows
from models.zoo import SPECS

CALIBRATION_PHOTOS = 128
CALIBRATION_SEED = 11


@dataclass(frozen=True, slots=True)
class BuiltModel:
    """The files of a taught model in the cache, not yet in its place, and what int8 answered.

    `judged` are the rows of the photos kept out, `int8` float32 [judged, classes] their calibrated logits.
    """

    name: str
    base: str
    fp32: str
    state: str
    result: Int8Result
    judged: Rows
    int8: Logits


def built(
    name: str,
    base: str,
    checkpoint: Path,
    terms: Terms,
    photos: PhotoSet,
    lesson: Lesson,
    told: dict[str, Any],
    notify: Notify,
) -> BuiltModel:
    """Write the artifacts of a lesson whose weights are in `checkpoint`, and certify int8. Raises LabelDirError."""
    folder = cache_folder()
    taught = Taught(name, base, checkpoint, photos.labels, lesson.references, told)
    fp32, state = isolated_call(prepare_taught, notify, taught, folder)
    judged = np.flatnonzero(lesson.held_out & (photos.classes != UNKNOWN))
    held_out = _sample(base, photos, judged, f"{len(judged)} photos that were not taught") if len(judged) else None
    int8 = Int8Request(terms, _calibration_photos(base, photos, lesson), held_out, _known_ranges(name, lesson))
    result = isolated_call(prepare_int8, notify, folder, fp32, int8)
    logits = np.zeros((0, len(photos.labels)), np.float32)
    if held_out is not None:
        logits = isolated_call(_logits, notify, folder / result.int8, held_out, terms.threads)
    return BuiltModel(name, base, fp32, state, result, judged, logits)


def put_in_place(model: BuiltModel, photos: PhotoSet, lesson: Lesson) -> None:
    """Make the model the one of its name. Raises OutputError, and then the model before is still whole."""
    result = model.result
    write_certificate(certificate_path(read_artifact(cache_folder() / result.int8)), result.certificate)
    write_manifest(model.name, Manifest("", result.int8, model.fp32, model.state, result.calibration))
    write_memory(memory_path(model.name), _remembered(model, photos, lesson))


def may_replace(model: BuiltModel, photos: PhotoSet, before: Remembered | None, is_complete: bool) -> bool:
    """Whether the model may take the place of the one before.

    int8 that does not answer as fp32 does never replaces int8 that did. A training that was stopped early replaces a
    model only where as many of the same photos are answered rightly.
    """
    if not _is_right(model.result.certificate) and _had_right_answers(read_manifest(model.name)):
        return False
    return is_complete or before is None or _right_now(model, photos, before) >= _right_before(model, photos, before)


def answers(model: BuiltModel, photos: PhotoSet) -> dict[str, tuple[str, str]]:
    """For each photo kept out, by digest: its true label, and the one that int8 gave it."""
    return {
        photos.digests[row]: (photos.labels[photos.classes[row]], photos.labels[int(best)])
        for row, best in zip(model.judged.tolist(), model.int8.argmax(axis=1).tolist(), strict=True)
    }


def _right_now(model: BuiltModel, photos: PhotoSet, before: Remembered) -> int:
    return sum(true == given for digest, (true, given) in answers(model, photos).items() if digest in before.answers)


def _right_before(model: BuiltModel, photos: PhotoSet, before: Remembered) -> int:
    now = answers(model, photos)
    return sum(true == given for digest, (true, given) in before.answers.items() if digest in now)


def _calibration_photos(base: str, photos: PhotoSet, lesson: Lesson) -> Photos:
    rows = np.flatnonzero(~lesson.held_out)
    drawn = np.sort(np.random.default_rng(CALIBRATION_SEED).permutation(rows)[:CALIBRATION_PHOTOS])
    return _sample(base, photos, drawn, f"{len(drawn)} of the photos that were taught")


def _sample(base: str, photos: PhotoSet, rows: Rows, told: str) -> Photos:
    """The photos as the model sees them: the centres of the decoded squares."""
    crop = SPECS[base].preprocessing.crop.crop_size
    edge = (photos.side - crop) // 2
    pixels = photos.pixels(rows)[:, edge : edge + crop, edge : edge + crop]
    classes = photos.classes[rows]
    known = None if (classes == UNKNOWN).any() else classes
    return Photos(np.ascontiguousarray(pixels), told, tuple(photos.digests[row] for row in rows), known)


def _known_ranges(name: str, lesson: Lesson) -> Calibration | None:
    """The activation ranges of the model before: where the head alone was taught, they are still right."""
    old = read_manifest(name)
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


def _remembered(model: BuiltModel, photos: PhotoSet, lesson: Lesson) -> Remembered:
    return Remembered(
        fp32=model.fp32,
        base=model.base,
        labels=photos.labels,
        digests=photos.digests,
        base_features=lesson.base_features,
        features=lesson.features,
        temperature=lesson.temperature,
        held_out=tuple(photos.digests[row] for row in np.flatnonzero(lesson.held_out)),
        answers=answers(model, photos),
    )
