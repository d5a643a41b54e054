"""A folder of photos -> pixels and true classes, for calibration and certification."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import InputMissingError
from models.samples import Photos
from models.spec import Crop
from models.system.outside_text import terminal_text
from pipeline.decoding.decode import decode_file
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.records import FileRef, ItemError
from pipeline.sources.read_file import ReadLimits
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import this_machine, usable_cores
from pipeline.system.process_map import process_map

PHOTO_TIMEOUT_S = 60.0
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """One photo's row name, uint8 [crop, crop, 3] pixels, and the sha256 of its file in hexadecimal."""

    name: str
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    digest: str


def decoded_sample(folder: Path, crop: Crop, seed: int) -> Generator[DecodedPhoto]:
    """Yield the photos below a folder in an order drawn by `seed`, without those that cannot be decoded.

    They are decoded in processes that may crash, as many as there are cores.

    Raises InputMissingError where there is no photo at all.
    """
    refs = photo_files(folder)
    order = np.random.default_rng(seed).permutation(len(refs))
    orders = (_Order(place, refs[int(index)], crop) for place, index in enumerate(order))
    processes = min(usable_cores(this_machine()), len(refs))
    found = False
    with contextlib.closing(process_map(_decoded, orders, processes, PHOTO_TIMEOUT_S)) as results:
        for photo in _in_order(results):
            if photo is not None:
                found = True
                yield photo
    if not found:
        raise InputMissingError(f"none of the {len(refs)} photos in {folder} can be decoded")


@dataclass(frozen=True, slots=True)
class _Order:
    """A photo to be decoded, and its place in the order of the sample."""

    place: int
    ref: FileRef
    crop: Crop


def _decoded(order: _Order) -> DecodedPhoto | None:
    pixels = np.empty((order.crop.crop_size, order.crop.crop_size, 3), np.uint8)
    facts = decode_file(order.ref, DecodeRules(order.crop, ReadLimits()), pixels)
    return None if isinstance(facts, ItemError) else DecodedPhoto(order.ref.name, pixels, facts.sha256.hex())


def _in_order(results: Iterable[tuple[_Order, DecodedPhoto | None]]) -> Iterator[DecodedPhoto | None]:
    waiting: dict[int, DecodedPhoto | None] = {}
    place = 0
    for order, photo in results:
        waiting[order.place] = photo
        while place in waiting:
            yield waiting.pop(place)
            place += 1


def photo_files(folder: Path) -> list[FileRef]:
    """Return the photos below `folder`, sorted. Raises InputMissingError where there is no folder or no photo."""
    if not folder.is_dir():
        raise InputMissingError(f"there is no folder {folder}")
    refs = list(walk(folder.resolve(), WalkRules(), WalkCounts()))
    if not refs:
        raise InputMissingError(f"there are no photos in {folder}")
    return refs


def photos_of(sample: list[DecodedPhoto], folder: Path, note: str, labels: tuple[str, ...]) -> Photos | None:
    """Return a sample as one array, with its true classes where all are known; None for an empty sample."""
    if not sample:
        return None
    known = _known_classes(folder, labels)
    classes = [known(photo.name) for photo in sample]
    array = None if None in classes else np.array(classes, np.int64)
    description = f"{len(sample)} photos of {folder.name}{note}"
    return Photos(
        np.stack([photo.pixels for photo in sample]), description, tuple(photo.digest for photo in sample), array
    )


def _known_classes(folder: Path, labels: tuple[str, ...]) -> Callable[[str], int | None]:
    """Return a function from a photo's row name to its true class, None where the class is not known.

    Classes come from a CSV file beside the folder with the folder's name, or `photos.csv` or `labels.csv` inside, with
    the columns file_name and class_index or category; else from folders named like labels.
    """
    tables = [folder.resolve().with_suffix(".csv"), folder / "photos.csv", folder / "labels.csv"]
    table = next((path for path in tables if path.is_file()), None)
    by_name = {} if table is None else _classes_in(table, labels)
    by_label = {_plain(label): index for index, label in enumerate(labels)}

    def known_class(name: str) -> int | None:
        parts = name.split("/")
        by_folder = by_label.get(_plain(parts[-2])) if len(parts) > 1 else None
        return by_name.get(name, by_folder)

    return known_class


def _classes_in(table: Path, labels: tuple[str, ...]) -> dict[str, int]:
    """Return the class of each photo that the table names one for. Raises InputMissingError."""
    # Reversed, so that the first of equal labels counts.
    indices = {label: index for index, label in reversed(list(enumerate(labels)))}
    classes = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                number, name = row.get("class_index") or "", row.get("file_name")
                is_index = number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS
                index = int(number) if is_index else indices.get(row.get("category") or "")
                if index is not None and index < len(labels) and name:
                    classes[name] = index
    except OSError as error:
        raise InputMissingError(f"{terminal_text(str(table))} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputMissingError(f"{terminal_text(str(table))} is no CSV file in UTF-8") from error
    return classes


def _plain(label: str) -> str:
    return "".join(letter for letter in label.lower() if letter.isalnum())
