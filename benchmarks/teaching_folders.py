"""Folders of classes made from others, to teach with: few photos a class, wrong labels, classes left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jobs.workshop.teaching_files import folder_labels
from pipeline.sources.walk import WalkCounts, WalkRules, walk

SHARE_MISLABELLED = 0.05
SISTERS_LEFT_OUT = 10
PHOTOS_LATE = 10


def by_class(folder: Path) -> dict[str, list[Path]]:
    """The photos of each class."""
    refs = list(walk(folder.resolve(), WalkRules(), WalkCounts()))
    labels = folder_labels([ref.name for ref in refs])
    found: dict[str, list[Path]] = {}
    for ref in refs:
        if ref.name in labels:
            found.setdefault(labels[ref.name], []).append(Path(ref.path))
    return found


def few(train: Path, folder: Path, shots: int, seed: int) -> Path:
    """`folder`, with so many photos of each class."""
    random = np.random.default_rng(seed)
    for label, photos in by_class(train).items():
        for index in random.permutation(len(photos))[:shots]:
            _copy(photos[int(index)], folder, label)
    return folder


def mislabelled(train: Path, folder: Path, to_sisters: bool, seed: int) -> set[str]:
    """Copy TRAIN with some photos in the folder of another class: the names of those photos there.

    Products of one maker or kind share the beginnings of their names and are sisters.
    """
    random = np.random.default_rng(seed)
    photos = [(label, path) for label, found in by_class(train).items() for path in found]
    labels = sorted({label for label, _ in photos})
    chosen = set(random.permutation(len(photos))[: round(SHARE_MISLABELLED * len(photos))].tolist())
    moved = set()
    for index, (label, path) in enumerate(photos):
        if index not in chosen:
            _copy(path, folder, label)
        else:
            sisters = _sisters(label, labels) if to_sisters else []
            others = sisters or [one for one in labels if one != label]
            moved.add(_copy(path, folder, str(random.choice(others))))
    return moved


def without_some(train: Path, validation: Path, folder: Path, seed: int) -> list[str]:
    """Below `folder`: `taught` and `judges` without some classes that have sisters, whose photos are in
    `sisters of taught` and `sisters of judges`; the names of those classes."""
    photos = by_class(train)
    with_sisters = sorted(label for label in photos if _sisters(label, photos))
    left_out = set(np.random.default_rng(seed).permutation(with_sisters)[:SISTERS_LEFT_OUT].tolist())
    for name, split in (("taught", photos), ("judges", by_class(validation))):
        for label, found in split.items():
            for path in found:
                _copy(path, folder / (f"sisters of {name}" if label in left_out else name), label)
    return sorted(left_out)


def all_but_late(train: Path, folder: Path, seed: int) -> list[tuple[str, Path]]:
    """Copy TRAIN without a few photos: those photos, with their classes."""
    photos = [(label, path) for label, found in by_class(train).items() for path in found]
    late = set(np.random.default_rng(seed).permutation(len(photos))[:PHOTOS_LATE].tolist())
    for index, (label, path) in enumerate(photos):
        if index not in late:
            _copy(path, folder, label)
    return [photos[index] for index in sorted(late)]


def add(photos: Iterable[tuple[str, Path]], folder: Path) -> None:
    """Put photos into the folders of their classes."""
    for label, path in photos:
        _copy(path, folder, label)


def _sisters(label: str, labels: Iterable[str]) -> list[str]:
    return [one for one in labels if one != label and one.split("-")[0] == label.split("-")[0]]


def _copy(source: Path, folder: Path, label: str) -> str:
    """Put a photo into a class's folder: its name there."""
    place = folder / label / source.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(source.read_bytes())
    return f"{label}/{source.name}"
