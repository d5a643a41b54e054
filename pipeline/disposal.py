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

from pipeline.durable import sync_folder
from pipeline.ledger import Entry
from pipeline.names import file_system_name

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Disposal:
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
            facts = path.lstat()
            if (facts.st_size, facts.st_mtime_ns // 1000) != (entry.size_bytes, entry.mtime_us):
                return False
            if self.target is None:
                path.unlink()
            else:
                _move(path, _free_place(self.target / file_system_name(entry.name), entry))
        except FileNotFoundError:
            return False
        return True


def _free_place(place: Path, entry: Entry) -> Path:
    """Return `place`, or where another photo has it, a name beside it that tells the content, or else a number.

    A move between file systems that was cut short leaves a copy: the same content may take its own place again.
    """
    if not os.path.lexists(place):
        return place
    if entry.is_labelled:
        content = entry.identity[1:]
        return place if _has_content(place, content) else place.with_stem(f"{place.stem}.{content.hex()[:_DIGITS]}")
    numbered = (place.with_stem(f"{place.stem}.{number}") for number in count(1))
    return next(candidate for candidate in numbered if not os.path.lexists(candidate))


def _has_content(path: Path, digest: bytes) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest() == digest


def _move(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_durably(source, place)
        source.unlink()


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
