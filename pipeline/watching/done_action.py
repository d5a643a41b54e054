"""What happens to a photo with a durable row: the photo stays, is moved away or is deleted."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from pathlib import Path

from models.system.atomic_file import sync_folder
from pipeline.datasets.row_index import Entry
from pipeline.sources.file_names import file_system_name
from pipeline.system.exclusive_rename import rename_without_replacing
from pipeline.watching.verified_photo import VerifiedPhoto, put_back_claim, verified, with_stem_ending

_DIGITS = 12
_NEW_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Outcome(Enum):
    """What became of a photo: moved or deleted; left where it is, or gone already; or it is not the row's photo."""

    DONE = auto()
    LEFT = auto()
    OTHER_PHOTO = auto()


@dataclass(frozen=True, slots=True)
class DoneAction:
    """Photos that were labelled are deleted, or they and the failed ones move below `target`; by default they stay.

    A photo that could not be labelled is never deleted. A photo is what its bytes are: one with other bytes than those
    of the row is left alone, whatever its name, size and time. `owner` (12 hexadecimal digits, one for each output) is
    part of every hidden name, so that what a killed process left is known as that of this output.
    """

    inbox: Path
    delete: bool = False
    target: Path | None = None
    owner: str = field(kw_only=True)

    @property
    def keeps(self) -> bool:
        """Whether photos stay where they are."""
        return not self.delete and self.target is None

    def apply(self, entry: Entry) -> Outcome:
        """Move or delete the photo of a durable row.

        Raises:
            OSError: the photo cannot be read, moved or deleted, or a program is still writing it.
        """
        if self.keeps or (self.delete and not entry.is_labelled):
            return Outcome.LEFT
        name = file_system_name(entry.name)
        try:
            with verified(self.inbox / name, entry, self.owner) as photo:
                if photo is None:
                    return Outcome.OTHER_PHOTO
                is_done = photo.remove() if self.target is None else self._move(photo, self.target / name, entry)
        except FileNotFoundError:
            return Outcome.LEFT
        return Outcome.DONE if is_done else Outcome.OTHER_PHOTO

    def put_back(self, path: Path) -> bool:
        """Give a photo that a killed process left at `path`, a hidden name of this output, its own name again.

        Returns False where `path` is anything else. The photo is then seen as any other, and what was to be done with
        it is done, if its row is durable and of its bytes.

        Raises:
            OSError: the photo cannot be renamed.
        """
        return put_back_claim(path, self.owner)

    def _move(self, photo: VerifiedPhoto, destination: Path, entry: Entry) -> bool:
        destination.parent.mkdir(parents=True, exist_ok=True)
        for candidate in _candidates(destination, entry):
            try:
                if entry.is_labelled and _has_content(candidate, photo.facts, entry.identity[1:]):
                    # An interrupted move between file systems left a copy there.
                    return photo.remove()
                return photo.rename(candidate)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return self._move_by_copy(photo, destination, entry)
        raise AssertionError("there is always another number")

    def _move_by_copy(self, photo: VerifiedPhoto, destination: Path, entry: Entry) -> bool:
        with self._copied(photo, destination.parent, entry) as copy:
            for candidate in _candidates(destination, entry):
                with contextlib.suppress(FileExistsError):
                    rename_without_replacing(copy, candidate)
                    break
            sync_folder(destination.parent)
            is_removed = False
            try:
                is_removed = photo.remove()
            finally:
                if not is_removed:
                    candidate.unlink()
        return is_removed

    @contextlib.contextmanager
    def _copied(self, photo: VerifiedPhoto, folder: Path, entry: Entry) -> Iterator[Path]:
        """Make a durable copy of a photo under a hidden name in `folder`, which the block renames.

        Raises:
            OSError: the photo cannot be copied, or its bytes changed.
        """
        copy, descriptor = _new_copy(folder, self.owner)
        with open(descriptor, "w+b") as target, open(photo.open(), "rb") as source:
            try:
                shutil.copyfileobj(source, target)
                # Data that is written later would change the time again.
                target.flush()
                target.seek(0)
                if entry.is_labelled and hashlib.file_digest(target, "sha256").digest() != entry.identity[1:]:
                    raise OSError(errno.EAGAIN, "it changed while it was copied")
                shutil.copystat(f"/proc/self/fd/{source.fileno()}", f"/proc/self/fd/{target.fileno()}")
                os.fsync(target.fileno())
                yield copy
            finally:
                copy.unlink(missing_ok=True)


def _candidates(path: Path, entry: Entry) -> Iterator[Path]:
    """Yield `path`, and in case another photo has that name, the name with the content's digest, then with numbers."""
    yield path
    if entry.is_labelled:
        yield with_stem_ending(path, f".{entry.identity[1:].hex()[:_DIGITS]}")
    yield from (with_stem_ending(path, f".{number}") for number in count(1))


def _has_content(path: Path, source: os.stat_result, digest: bytes) -> bool:
    """Tell whether another file than `source`, at `path`, has this digest."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    with open(descriptor, "rb") as stream:
        facts = os.fstat(descriptor)
        if os.path.samestat(facts, source):
            # To remove the photo here would remove it there.
            raise OSError(errno.ELOOP, "the folder to move to is the inbox by another path")
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != source.st_size:
            return False
        return hashlib.file_digest(stream, "sha256").digest() == digest


def _new_copy(folder: Path, owner: str) -> tuple[Path, int]:
    """Return the hidden path and a descriptor of a new file in `folder`, in place of one that a killed process left.

    A photo stays in the inbox until its copy is whole and has its name: the copy of a killed process is of no use.

    Raises:
        OSError: the file cannot be made.
    """
    path = folder / f".{owner}.moving"
    with contextlib.suppress(FileExistsError):
        return path, os.open(path, _NEW_FILE_FLAGS, 0o600)
    facts = os.lstat(path)
    if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_nlink == 1:
        path.unlink()
    else:
        # A file of others.
        path = folder / f".{owner}-{secrets.token_hex(8)}.moving"
    return path, os.open(path, _NEW_FILE_FLAGS, 0o600)
