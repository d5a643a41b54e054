"""Which files teach which class: folders of classes, a table of labels, and what persons reviewed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.report.find_photos import source_folder
from jobs.workshop.photos import photo_files
from jobs.workshop.teaching_table import table_labels
from models.errors import InputMissingError, UsageError
from pipeline.records import FileRef
from pipeline.reviews.reviewed_labels import reviewed_photos, table_of
from pipeline.sources.file_names import display_name, file_system_name


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file, its label (None: of none of the classes), whether it must be kept out of training (None: open), and the
    sha256 of the bytes that the label is of (None: of whatever bytes there are)."""

    ref: FileRef
    label: str | None
    held_out: bool | None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BrokenPhoto:
    """A file that nothing could be learnt from, and why."""

    name: str
    reason: str


Found = tuple[list[LabelledFile], list[BrokenPhoto]]


def labelled_files(
    folder: Path, table: Path | None, held_out: Path | None, unknown: Path | None, reviews: Path | None = None
) -> Found:
    """The photos to teach with, and those of them that have no label. Raises LabelDirError.

    Where `folder` is the one whose photos were reviewed, its folders are no classes: the reviews alone are labels.
    `held_out` and `unknown` may lie in `folder`; their photos are no others then.
    """
    apart = [one.resolve() for one in (held_out, unknown) if one is not None]
    if folder.resolve() in apart:
        raise UsageError(f"{folder} cannot be both the photos to learn from and those of --held-out or --unknown")
    open_choice = None if held_out is None else False
    files: list[LabelledFile] = []
    broken: list[BrokenPhoto] = []
    if reviews is None or table is not None or folder.resolve() != _reviewed_folder(reviews).resolve():
        files, broken = _files_of(folder, table, open_choice, apart)
    if reviews is not None:
        found = _reviewed_files(reviews, open_choice, f"{reviews.name}/" if files else "")
        files, broken = files + found[0], broken + found[1]
    if not files:
        raise InputMissingError(_nothing_to_learn(folder, table, reviews))
    if held_out is not None:
        found = _judges(held_out, {file.label for file in files})
        files, broken = files + found[0], broken + found[1]
    if unknown is not None:
        refs = [ref._replace(name=f"{unknown.name}/{ref.name}") for ref in photo_files(unknown)]
        files.extend(LabelledFile(ref, None, open_choice) for ref in refs)
    return files, broken


def folder_labels(names: Sequence[str]) -> dict[str, str]:
    """Row name -> label: the name of the folder a photo lies in, with those above it where two folders share it.

    Photos in no folder have no label.
    """
    folders = sorted({name.rpartition("/")[0] for name in names} - {""})
    shared = Counter(folder.rpartition("/")[2] for folder in folders)
    label_of = {}
    for folder in folders:
        last = folder.rpartition("/")[2]
        label_of[folder] = last if shared[last] == 1 else folder
    return {name: label_of[name.rpartition("/")[0]] for name in names if "/" in name}


def _nothing_to_learn(folder: Path, table: Path | None, reviews: Path | None) -> str:
    if reviews is not None:
        return f"nobody has confirmed or corrected the label of a photo in {reviews} that is still there"
    if table is not None:
        return f"no photo in {folder} has a label in {table}: file_name is the way to a photo from {folder}"
    return f"no photo in {folder} has a label: put each class into a folder of its own"


def _files_of(folder: Path, table: Path | None, held_out: bool | None, apart: Sequence[Path]) -> Found:
    refs = [ref for ref in photo_files(folder) if not any(Path(ref.path).is_relative_to(one) for one in apart)]
    if table is None:
        labels = folder_labels([ref.name for ref in refs])
        reasons = dict.fromkeys(_empty_folders(folder, refs, apart), "holds no photo, so it is no class")
        why = "lies in no folder of a class"
    else:
        labels, reasons = table_labels(table)
        names = {ref.name for ref in refs}
        reasons |= {name: "is in the table of labels and not in the folder" for name in labels if name not in names}
        why = "not in the table of labels"
    reasons |= {ref.name: why for ref in refs if ref.name not in labels and ref.name not in reasons}
    files = [LabelledFile(ref, labels[ref.name], held_out) for ref in refs if ref.name in labels]
    return files, [BrokenPhoto(name, reason) for name, reason in reasons.items()]


def _empty_folders(folder: Path, refs: Collection[FileRef], apart: Sequence[Path]) -> list[str]:
    """Folders that hold neither photos nor folders: a class that was meant, and would be missing without a word."""
    full = {ref.name.rpartition("/")[0] for ref in refs}
    found = []
    for path, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if not folders and Path(path).resolve() not in apart:
            found.append(display_name(os.path.relpath(path, folder)))
    return [name for name in found if name not in full and name != "."]


def _judges(folder: Path, taught: set[str | None]) -> Found:
    refs = photo_files(folder)
    labels = folder_labels([ref.name for ref in refs])
    files, broken = [], []
    for ref in refs:
        name = f"{folder.name}/{ref.name}"
        if labels.get(ref.name) in taught:
            files.append(LabelledFile(ref._replace(name=name), labels[ref.name], True))
        else:
            broken.append(BrokenPhoto(name, "is of no class that is taught"))
    return files, broken


def _reviewed_folder(reviews: Path) -> Path:
    """The folder of the photos that were reviewed, as the table beside the reviews says. Raises LabelDirError."""
    table = table_of(reviews)
    folder = source_folder(table)
    if folder is None:
        raise InputMissingError(f"{table} does not say which folder its photos are in, or that folder is not there")
    return folder


def _reviewed_files(reviews: Path, held_out: bool | None, prefix: str) -> Found:
    """The reviewed photos with the labels of persons, and those that are gone; names begin with `prefix`.

    A label that nobody confirmed is not among them: a model must not learn from its own guesses.
    """
    folder = _reviewed_folder(reviews)
    files, broken = [], []
    for photo in reviewed_photos(reviews, table_of(reviews)):
        path = _path_below(folder, photo.file_name)
        if path is None:
            broken.append(BrokenPhoto(prefix + photo.file_name, "is gone since it was reviewed"))
        else:
            ref = FileRef(prefix + photo.file_name, path, 0, 0)
            files.append(LabelledFile(ref, photo.label, held_out, photo.sha256))
    return files, broken


def _path_below(folder: Path, row_name: str) -> str | None:
    """The file of a row; None where there is none. A table's names are from outside and must not lead elsewhere."""
    path = folder / file_system_name(row_name)
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):
        return None
    return str(path) if is_inside and os.path.isfile(path) else None
