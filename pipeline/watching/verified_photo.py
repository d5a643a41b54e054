"""A photo held open whose bytes are those of its row, to be removed or moved without harm to any other photo.

A path is only a name: a camera may put another photo there at any moment. So the bytes are hashed through a descriptor,
the file is renamed to a name that nobody else uses, and only a file that is then still the one behind the descriptor,
unchanged and not open for writing, is removed. A file that is not goes back to its name.

That other name is the claim: it is hidden, and says of which output it is. `put_back_claim` ends what a killed process
began: a claimed photo gets its name again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import signal
import stat
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from pipeline.datasets.row_index import Entry
from pipeline.records import mtime_us_of
from pipeline.system.exclusive_rename import rename_without_replacing

_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_NAME_BYTES = 255
_TOKEN_BYTES = 8


class VerifiedPhoto:
    """The file behind `descriptor`, with its `stat` when its bytes were compared; made by `verified`."""

    def __init__(self, path: Path, descriptor: int, facts: os.stat_result, is_readable: bool, owner: str) -> None:
        self.path = path
        self.facts = facts
        self._owner = owner
        self._descriptor = descriptor
        self._is_readable = is_readable

    def remove(self) -> bool:
        """Delete the photo; False where another photo has its name by now, which keeps that name.

        Raises:
            OSError: the photo cannot be deleted.
        """
        with _claim(self.path, self._owner) as claim:
            is_claimed = self.rename(claim)
            if is_claimed:
                try:
                    claim.unlink()
                except OSError:
                    _put_back(claim, self.path)
                    raise
        return is_claimed

    def rename(self, new_path: Path) -> bool:
        """Rename the photo; False where another photo has its name by now, which keeps that name.

        Raises:
            FileExistsError: there is a file at `new_path`.
            OSError: the photo cannot be renamed.
        """
        rename_without_replacing(self.path, new_path)
        if self._is_at(new_path):
            return True
        _put_back(new_path, self.path)
        return False

    def open(self) -> int:
        """Return a new descriptor to read the photo from its beginning.

        Raises:
            OSError: the photo cannot be read.
        """
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _is_at(self, path: Path) -> bool:
        now = os.lstat(path)
        return (
            os.path.samestat(now, self.facts)
            and (now.st_size, now.st_mtime_ns) == (self.facts.st_size, self.facts.st_mtime_ns)
            and not (self._is_readable and _is_open_for_writing(self._descriptor))
        )


@contextlib.contextmanager
def verified(path: Path, entry: Entry, owner: str) -> Iterator[VerifiedPhoto | None]:
    """Hold the photo at `path`; None where its bytes are not those of the row of `entry`.

    A photo that could not be labelled has a row without a digest: it is known by the inode, the size and the times that
    it had when it was read. `owner` becomes part of the name of a claim.

    Raises:
        FileNotFoundError: there is no photo at `path`.
        OSError: the photo cannot be read, or a program is still writing it.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS if entry.is_labelled else _PATH_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, "a link now", str(path)) from error
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
        is_same = _has_bytes(descriptor, facts, entry) if entry.is_labelled else _has_stat(facts, entry)
        yield VerifiedPhoto(path, descriptor, facts, entry.is_labelled, owner) if is_same else None
    finally:
        os.close(descriptor)


def put_back_claim(path: Path, owner: str) -> bool:
    """Rename a photo that a killed process of `owner` had claimed back to its own name; False if `path` is no claim.

    Raises:
        OSError: the photo cannot be renamed.
    """
    match = re.fullmatch(rf"\.(?:([^.].*)\.)?{owner}-[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.labelled", path.name, re.DOTALL)
    if match is None:
        return False
    mode = os.lstat(path).st_mode
    if match[1] is not None and stat.S_ISREG(mode):
        _put_back(path, path.with_name(match[1]))
    elif match[1] is None and stat.S_ISDIR(mode):
        for name in os.listdir(path):
            _put_back(path / name, path.with_name(name))
        path.rmdir()
    else:
        return False
    return True


@contextlib.contextmanager
def _claim(path: Path, owner: str) -> Iterator[Path]:
    """Give a hidden path for the photo at `path`: a name beside it or, for a long name, in a new folder beside it."""
    ending = f".{owner}-{secrets.token_hex(_TOKEN_BYTES)}.labelled"
    if len(os.fsencode(f".{path.name}{ending}")) <= _LONGEST_NAME_BYTES:
        yield path.with_name(f".{path.name}{ending}")
        return
    folder = path.with_name(ending)
    folder.mkdir(0o700)
    try:
        yield folder / path.name
    finally:
        # Where the photo is still in it, it is put back later.
        with contextlib.suppress(OSError):
            folder.rmdir()


def with_stem_ending(path: Path, ending: str) -> Path:
    """Return `path` with `ending` between its stem and its suffix; the stem is cut where the name would be too long."""
    ending += path.suffix
    stem = os.fsencode(path.stem)[: _LONGEST_NAME_BYTES - len(os.fsencode(ending))]
    return path.with_name(os.fsdecode(stem) + ending)


def _has_bytes(descriptor: int, facts: os.stat_result, entry: Entry) -> bool:
    if facts.st_size != entry.size_bytes:
        return False
    if _is_open_for_writing(descriptor):
        raise OSError(errno.EBUSY, "a program still has it open for writing")
    with open(descriptor, "rb", closefd=False) as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    now = os.fstat(descriptor)
    unchanged = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return unchanged and digest == entry.identity[1:]


def _has_stat(facts: os.stat_result, entry: Entry) -> bool:
    found = (facts.st_size, mtime_us_of(facts), facts.st_ctime_ns)
    is_same_inode = entry.inode in (0, facts.st_ino)
    return is_same_inode and found == (entry.size_bytes, entry.mtime_us, entry.ctime_ns)


def _is_open_for_writing(descriptor: int) -> bool:
    """Tell whether a program has the file open for writing; False where the kernel cannot say (network shares)."""
    try:
        # A program that opens the file meanwhile breaks the lease; SIGIO, the usual notice, would end this process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _put_back(path: Path, former: Path) -> None:
    """Give a photo its former name again, or where that is taken a name beside it."""
    for candidate in chain([former], (with_stem_ending(former, f".{number}") for number in count(1))):
        with contextlib.suppress(FileExistsError):
            rename_without_replacing(path, candidate)
            return
