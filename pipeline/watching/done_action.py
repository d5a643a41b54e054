"""What happens to a photo with a durable row: the photo stays, is moved away or is deleted."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from models.system.atomic_file import replacing
from pipeline.sources.file_names import file_system_name
from pipeline.tables.row_index import Entry

_DIGITS = 12
_CLAIMED = "labelled"


@dataclass(frozen=True, slots=True)
class DoneAction:
    """Photos that were labelled are deleted, or they and the failed ones move below `target`; by default they stay.

    A photo that could not be labelled is never deleted.
    """

    inbox: Path
    delete: bool = False
    target: Path | None = None

    @property
    def keeps(self) -> bool:
        """Whether photos stay where they are."""
        return not self.delete and self.target is None

    def apply(self, entry: Entry) -> bool:
        """Move or delete the photo of a durable row; False if it is gone, or no longer the photo of that row.

        Raises:
            OSError: the photo cannot be moved or deleted.
        """
        if self.keeps or (self.delete and not entry.is_labelled):
            return False
        path = self.inbox / file_system_name(entry.name)
        try:
            if not _is_photo_of(entry, path):
                return False
            destination = None if self.target is None else self.target / file_system_name(entry.name)
            if destination is None or (entry.is_labelled and _has_content(destination, entry.identity[1:])):
                # An interrupted move between file systems left a copy there.
                return _remove(path, entry)
            return _move(path, _free_path(destination, entry), entry)
        except FileNotFoundError:
            return False


def _is_photo_of(entry: Entry, path: Path) -> bool:
    facts = path.lstat()
    return (facts.st_size, facts.st_mtime_ns // 1000) == (entry.size_bytes, entry.mtime_us)


def _free_path(path: Path, entry: Entry) -> Path:
    """Return `path`; if another photo has it, the name with the content's digest, or with a number if it has none."""
    if not os.path.lexists(path):
        return path
    if entry.is_labelled:
        return path.with_stem(f"{path.stem}.{entry.identity[1:].hex()[:_DIGITS]}")
    numbered = (path.with_stem(f"{path.stem}.{number}") for number in count(1))
    return next(candidate for candidate in numbered if not os.path.lexists(candidate))


def _has_content(path: Path, digest: bytes) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest() == digest


def _remove(path: Path, entry: Entry) -> bool:
    claimed = path.with_name(f".{path.name}.{_CLAIMED}")
    is_claimed = _rename(path, claimed, entry)
    if is_claimed:
        claimed.unlink()
    return is_claimed


def _move(path: Path, destination: Path, entry: Entry) -> bool:
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _rename(path, destination, entry)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _move_by_copy(path, destination, entry)


def _move_by_copy(path: Path, destination: Path, entry: Entry) -> bool:
    with path.open("rb") as source, replacing(destination) as copy:
        shutil.copyfileobj(source, copy)
        # Data that is written later would change the time again.
        copy.flush()
        shutil.copystat(path, copy.name)
    is_removed = False
    try:
        is_removed = _remove(path, entry)
    finally:
        if not is_removed:
            destination.unlink()
    return is_removed


def _rename(path: Path, new_path: Path, entry: Entry) -> bool:
    """Rename the photo of a row; False if another photo took its name at the last moment, which keeps that name."""
    path.rename(new_path)
    if _is_photo_of(entry, new_path):
        return True
    if os.path.lexists(path):
        # An even newer photo has the name by now: it replaces the renamed one, as it would have without the rename.
        new_path.unlink()
    else:
        new_path.rename(path)
    return False
