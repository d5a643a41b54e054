"""What happens to a photo whose row is durable: it stays, moves away or goes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from models.system.atomic_file import sync_folder
from pipeline.sources.file_names import file_system_name
from pipeline.tables.row_index import Entry

_DIGITS = 12
_CLAIMED = "labelled"


@dataclass(frozen=True, slots=True)
class DoneAction:
    """`delete` photos that were labelled, or move them and the failed ones below `target`; neither: they stay.

    A photo that could not be labelled is never deleted.
    """

    inbox: Path
    delete: bool = False
    target: Path | None = None

    @property
    def keeps(self) -> bool:
        """Whether photos stay where they are."""
        return not self.delete and self.target is None

    def dispose(self, entry: Entry) -> bool:
        """Do it with the photo of a durable row; False where it is not the one the row was made of, or is not there.

        Raises:
            OSError: it cannot be moved or deleted.
        """
        if self.keeps or (self.delete and not entry.is_labelled):
            return False
        path = self.inbox / file_system_name(entry.name)
        try:
            if not _is_photo_of(entry, path):
                return False
            place = None if self.target is None else self.target / file_system_name(entry.name)
            if place is None or (entry.is_labelled and _has_content(place, entry.identity[1:])):
                # A move between file systems that was cut short left a copy.
                return _remove(path, entry)
            return _move(path, _free_place(place, entry), entry)
        except FileNotFoundError:
            return False


def _is_photo_of(entry: Entry, path: Path) -> bool:
    facts = path.lstat()
    return (facts.st_size, facts.st_mtime_ns // 1000) == (entry.size_bytes, entry.mtime_us)


def _free_place(place: Path, entry: Entry) -> Path:
    """Return `place`, or where another photo has it, a name beside it that tells the content, or else a number."""
    if not os.path.lexists(place):
        return place
    if entry.is_labelled:
        return place.with_stem(f"{place.stem}.{entry.identity[1:].hex()[:_DIGITS]}")
    numbered = (place.with_stem(f"{place.stem}.{number}") for number in count(1))
    return next(candidate for candidate in numbered if not os.path.lexists(candidate))


def _has_content(path: Path, digest: bytes) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest() == digest


def _remove(path: Path, entry: Entry) -> bool:
    """Delete the photo of a row; another one that took its name at the last moment stays."""
    claimed = path.with_name(f".{path.name}.{_CLAIMED}")
    path.rename(claimed)
    if not _is_photo_of(entry, claimed):
        _put_back(claimed, path)
        return False
    claimed.unlink()
    return True


def _move(path: Path, place: Path, entry: Entry) -> bool:
    """Move the photo of a row; another one that took its name at the last moment stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _move_by_copy(path, place, entry)
    if not _is_photo_of(entry, place):
        _put_back(place, path)
        return False
    return True


def _move_by_copy(path: Path, place: Path, entry: Entry) -> bool:
    _copy_durably(path, place)
    is_gone = False
    try:
        is_gone = _remove(path, entry)
    finally:
        if not is_gone:
            place.unlink()
    return is_gone


def _put_back(taken: Path, path: Path) -> None:
    """Give a photo that has no row its name again; one that has the name by now came later, and counts instead."""
    if not os.path.lexists(path):
        taken.rename(path)
    else:
        taken.unlink()


def _copy_durably(source: Path, place: Path) -> None:
    temporary = place.with_name(f".{place.name}.tmp")
    try:
        shutil.copy2(source, temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.rename(place)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(place.parent)
