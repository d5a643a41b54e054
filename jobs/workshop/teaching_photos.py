"""Labelled files -> decoded photos for teaching, in a file; broken ones as a list."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.workshop.photos import PHOTO_TIMEOUT_S
from jobs.workshop.teaching_files import BrokenPhoto, LabelledFile
from models.errors import InputMissingError, OutputError
from models.spec import Crop
from models.teaching.photo_set import UNKNOWN, Moment, PhotoSet
from pipeline.decoding.capture_moment import moment_in_exif
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.records import ErrorClass, ItemError
from pipeline.sources.read_file import ReadLimits, read_file
from pipeline.system.process_map import process_map


@dataclass(frozen=True, slots=True)
class DecodedPhotos:
    """What could be decoded, with the paths of the files in the order of its rows, and what could not."""

    photos: PhotoSet
    paths: tuple[str, ...]
    broken: tuple[BrokenPhoto, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    row: int
    path: str
    side: int
    pixels_path: str


@dataclass(frozen=True, slots=True)
class _Found:
    digest: str
    moment: tuple[str, float] | None


def decoded(
    files: Sequence[LabelledFile],
    broken: Iterable[BrokenPhoto],
    pixels_path: Path,
    side: int,
    processes: int,
    on_photo: Callable[[int, int], None],
) -> DecodedPhotos:
    """Decode every file in processes that may crash, as squares of `side` pixels into `pixels_path`.

    Raises OutputError where the disk has no room for them, InputMissingError where nothing can be decoded.
    """
    _reserve(pixels_path, len(files) * side * side * 3)
    orders = [_Order(row, file.ref.path, side, str(pixels_path)) for row, file in enumerate(files)]
    found: list[_Found | None] = [None] * len(files)
    failed = list(broken)
    for done, (order, result) in enumerate(process_map(_decode, orders, processes, PHOTO_TIMEOUT_S), 1):
        if isinstance(result, _Found) and files[order.row].sha256 not in (None, result.digest):
            failed.append(BrokenPhoto(files[order.row].ref.name, "has changed since it was reviewed"))
        elif isinstance(result, _Found):
            found[order.row] = result
        else:
            reason = (
                str(result) if result is not None else f"{ErrorClass.WORKER_CRASH}: a decoder ended with this photo"
            )
            failed.append(BrokenPhoto(files[order.row].ref.name, reason))
        on_photo(done, len(files))
    return _photo_set(files, found, failed, pixels_path, side)


def _photo_set(
    files: Sequence[LabelledFile],
    found: Sequence[_Found | None],
    failed: list[BrokenPhoto],
    pixels_path: Path,
    side: int,
) -> DecodedPhotos:
    whole = [(row, file, one) for row, (file, one) in enumerate(zip(files, found, strict=True)) if one is not None]
    labels = tuple(sorted({file.label for _, file, _ in whole if file.label is not None and not file.held_out}))
    if not labels:
        raise InputMissingError(f"none of the {len(files)} photos can be decoded")
    ids = {label: index for index, label in enumerate(labels)}
    kept = [(row, file, one) for row, file, one in whole if file.label is None or file.label in ids]
    _close_gaps(pixels_path, [row for row, _, _ in kept], side)
    choices = [file.held_out for _, file, _ in kept]
    photos = PhotoSet(
        labels=labels,
        names=tuple(file.ref.name for _, file, _ in kept),
        digests=tuple(one.digest for _, _, one in kept),
        classes=np.array([UNKNOWN if file.label is None else ids[file.label] for _, file, _ in kept], np.int64),
        moments=tuple(Moment(*one.moment) if one.moment else None for _, _, one in kept),
        pixels_path=pixels_path,
        side=side,
        held_out=None if None in choices else np.array(choices, bool),
    )
    return DecodedPhotos(photos, tuple(file.ref.path for _, file, _ in kept), tuple(failed))


def _reserve(path: Path, size_bytes: int) -> None:
    try:
        with path.open("wb") as file:
            # Without it a full disk would show only when the photos are written, one error a photo.
            os.posix_fallocate(file.fileno(), 0, max(1, size_bytes))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OutputError(f"cannot write the decoded photos to {path}: {error.strerror}") from error


def _close_gaps(path: Path, rows: list[int], side: int) -> None:
    """Move the rows together, so that row k of the file is the k-th that is kept."""
    size = side * side * 3
    with path.open("r+b") as file:
        for place, row in enumerate(rows):
            if place != row:
                file.seek(row * size)
                content = file.read(size)
                file.seek(place * size)
                file.write(content)


@functools.cache
def _rules(side: int) -> DecodeRules:
    return DecodeRules(Crop(side, side, "bicubic"), ReadLimits())


def _decode(order: _Order) -> _Found | ItemError:
    rules = _rules(order.side)
    content = read_file(order.path, rules.limits)
    if isinstance(content, ItemError):
        return content
    pixels = np.empty((order.side, order.side, 3), np.uint8)
    size = decode_bytes(content.content, rules, pixels)
    if isinstance(size, ItemError):
        return size
    try:
        with Path(order.pixels_path).open("r+b") as file:
            file.seek(order.row * pixels.nbytes)
            file.write(pixels.tobytes())
    except OSError as error:
        return ItemError(ErrorClass.IO, error.strerror or str(error))
    return _Found(hashlib.sha256(content.content).hexdigest(), moment_in_exif(content.content))
