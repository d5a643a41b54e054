"""A folder of photos as pixels for a model: what calibration and certification are given."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import InputMissingError
from models.samples import Photos
from models.spec import Crop
from pipeline.decoding.decode import DecodeRules, decode_file
from pipeline.records import FileRef, ItemError
from pipeline.sources.read_file import ReadLimits
from pipeline.sources.walk import WalkCounts, WalkRules, walk


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """One photo's row name, uint8 [crop, crop, 3] pixels, and the sha256 of its file in hexadecimal."""

    name: str
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    digest: str


def decoded_sample(folder: Path, crop: Crop, seed: int) -> Iterator[DecodedPhoto]:
    """The photos below a folder in an order drawn by `seed`, without those that cannot be decoded.

    Raises InputMissingError where there is no photo at all.
    """
    refs = _photo_files(folder)
    rules = DecodeRules(crop, ReadLimits())
    found = False
    for index in np.random.default_rng(seed).permutation(len(refs)):
        ref = refs[int(index)]
        pixels = np.empty((crop.crop_size, crop.crop_size, 3), np.uint8)
        facts = decode_file(ref, rules, pixels)
        if not isinstance(facts, ItemError):
            found = True
            yield DecodedPhoto(ref.name, pixels, facts.sha256.hex())
    if not found:
        raise InputMissingError(f"none of the {len(refs)} photos in {folder} can be decoded")


def _photo_files(folder: Path) -> list[FileRef]:
    if not folder.is_dir():
        raise InputMissingError(f"there is no folder {folder}")
    refs = list(walk(folder.resolve(), WalkRules(), WalkCounts()))
    if not refs:
        raise InputMissingError(f"there are no photos in {folder}")
    return refs


def photos_of(sample: list[DecodedPhoto], folder: Path, what: str, labels: tuple[str, ...]) -> Photos | None:
    """A sample as one array, with its true classes where all are known; None for an empty sample."""
    if not sample:
        return None
    known = known_classes(folder, labels)
    classes = [known(photo.name) for photo in sample]
    array = None if None in classes else np.array(classes, np.int64)
    told = f"{len(sample)} photos of {folder.name}{what}"
    return Photos(np.stack([photo.pixels for photo in sample]), told, tuple(photo.digest for photo in sample), array)


class KnownClasses:
    """A photo's name -> its true class, from a table of labels or from the folder it lies in."""

    def __init__(self, by_name: dict[str, int], labels: tuple[str, ...]):
        self._by_name = by_name
        self._by_label = {_plain(label): index for index, label in enumerate(labels)}

    def __call__(self, name: str) -> int | None:
        """The class of the photo in the row called `name`, or None where it is not known."""
        if name in self._by_name:
            return self._by_name[name]
        parts = name.split("/")
        return self._by_label.get(_plain(parts[-2])) if len(parts) > 1 else None


def known_classes(folder: Path, labels: tuple[str, ...]) -> KnownClasses:
    """What tells the classes of the photos in a folder.

    That is a CSV file beside the folder and called like it, or `photos.csv` or `labels.csv` inside, with the columns
    file_name and class_index or category; else folders named like labels.
    """
    tables = [folder.resolve().with_suffix(".csv"), folder / "photos.csv", folder / "labels.csv"]
    table = next((path for path in tables if path.is_file()), None)
    if table is None:
        return KnownClasses({}, labels)
    indices = {label: index for index, label in reversed(list(enumerate(labels)))}
    by_name = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            index = (
                int(row["class_index"])
                if row.get("class_index", "").isdigit()
                else indices.get(row.get("category", ""))
            )
            if index is not None and "file_name" in row:
                by_name[row["file_name"]] = index
    return KnownClasses(by_name, labels)


def _plain(label: str) -> str:
    return "".join(letter for letter in label.lower() if letter.isalnum())
