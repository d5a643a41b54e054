"""Files that are whole or not there: temporary file, fsync, rename, fsync of the folder.

A temporary file has a name that cannot be guessed, and is locked while its writer lives. So nobody can plant a link
under that name, and a temporary file without a lock is known as that of a process that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_TOKEN_BYTES = 8
_PERMISSIONS = 0o777


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes the place of `path` in one step when the block ends well; else leave `path` alone.

    The new file has the permissions of the old one. Temporary files that killed writers of `path` left are removed.

    Raises:
        OSError: the file cannot be written.
    """
    remove_stale_temporaries(path)
    with _temporary(path) as (temporary, stream):
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
        temporary.replace(path)
    sync_folder(path.parent)


def replace_quickly(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, but without fsync: for what can be made again after a loss of power.

    Temporary files of killed writers stay, since looking for them takes longer than writing a small file.

    Raises:
        OSError: the file cannot be written.
    """
    with _temporary(path) as (temporary, stream):
        stream.write(content)
        stream.flush()
        temporary.replace(path)


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, as `replacing` does; a missing folder is created.

    Raises:
        OSError: the file or its folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(content)


def remove_stale_temporaries(path: Path) -> None:
    """Remove what killed writers of `path` left: files of this user, named as theirs, that no process has locked."""
    pattern = re.compile(re.escape(f".{_stem(path)}.") + rf"[0-9a-f]{{{2 * _TOKEN_BYTES}}}\.tmp")
    # Where the folder cannot be listed or a file not removed, writing says so, or needs neither.
    with contextlib.suppress(OSError):
        for name in filter(pattern.fullmatch, os.listdir(path.parent)):
            with contextlib.suppress(OSError):
                _remove_if_stale(path.with_name(name))


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Give a new file beside `path`, with the permissions of the old one; it is removed when the block fails."""
    temporary, stream = _new_temporary(path)
    try:
        with stream:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(stream.fileno(), path.stat().st_mode & _PERMISSIONS)
            yield temporary, stream
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _new_temporary(path: Path) -> tuple[Path, BinaryIO]:
    """Return the path of a new, locked file beside `path`, and a stream into that file."""
    while True:
        temporary = path.with_name(f".{_stem(path)}.{secrets.token_hex(_TOKEN_BYTES)}.tmp")
        # Mode "x" fails where anything has this name, a link included.
        stream = temporary.open("xb")
        # Some file systems have no locks; there nothing is ever taken for stale.
        with contextlib.suppress(OSError):
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return temporary, stream
        # Between its creation and its lock another writer took the file for stale.
        stream.close()


def _remove_if_stale(temporary: Path) -> None:
    descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.unlink()
    finally:
        os.close(descriptor)


def _stem(path: Path) -> str:
    """Return the part of a temporary file's name that says of which file it is; a long name is cut, not refused."""
    return os.fsdecode(os.fsencode(path.name)[:200])
