"""A lock file for one writer per output: the kernel frees it when the holder dies, and it names the holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.system.atomic_file import sync_folder
from models.system.outside_text import terminal_text
from pipeline.errors import LockedError
from pipeline.system.ownership import (
    MARKER_NAME,
    NotOursError,
    Owner,
    claim_folder,
    has_marker,
    open_private_folder,
    path_through,
)

LOCK_NAME = "lock"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder that exists while its lock is held, or longer where it keeps other files; all its files are `is_known`.

    Its marker names `owner`.
    """

    path: Path
    owner: Owner
    is_known: Callable[[str], bool]


@contextlib.contextmanager
def held_state(state: StateFolder, what: str, doing: str = "written") -> Iterator[Path]:
    """Hold the lock of a state folder, as `held` does, with the folder marked as its owner's.

    Yields a path for this process to the very folder that was checked: it leads nowhere else, even if somebody
    exchanges the folder for a link meanwhile.

    Raises:
        LockedError: another process holds the lock.
        NotOursError: the folder is not that of this owner, or not private to this user.
        OSError: the folder or its files cannot be made.
    """
    with contextlib.suppress(FileNotFoundError):
        # Before a lock is made in it.
        has_marker(state.path, state.owner, _known(state))
    with held(state.path / LOCK_NAME, what, doing) as folder:
        try:
            claim_folder(state.path, state.owner, _known(state), is_durable=False)
            yield folder
        finally:
            with contextlib.suppress(OSError):
                if set(os.listdir(folder)) == {LOCK_NAME, MARKER_NAME}:
                    (folder / MARKER_NAME).unlink()


def _known(state: StateFolder) -> Callable[[str], bool]:
    return lambda name: name == LOCK_NAME or state.is_known(name)


@contextlib.contextmanager
def held(path: Path, what: str, doing: str = "written") -> Iterator[Path]:
    """Hold a lock on the file `path` while the block runs; makes its folder and the file, and removes them after.

    The kernel releases the lock when the process ends, however it ends. A second process reads in its error that
    `what` is being `doing`. The folder stays if other files are in it. Yields a path to that folder, as `held_state`.

    Raises:
        LockedError: another process holds the lock; the message says which, and since when.
        NotOursError: the folder is not private to this user, or the file is a link or no regular file.
        OSError: the file cannot be made.
    """
    folder, descriptor = _locked(path, f"{what} is being {doing}")
    try:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield path_through(folder, path.parent)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path.name, dir_fd=folder)
            path.parent.rmdir()
        os.close(descriptor)
        os.close(folder)


def _locked(path: Path, what: str) -> tuple[int, int]:
    """Return descriptors of the folder of `path` and of `path`, which is locked."""
    while True:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(0o700)
            # Without this a power cut may remove the folder, and with it the files that were made durable in it.
            sync_folder(path.parent.parent)
        try:
            folder, descriptor = _opened(path)
        except FileNotFoundError:
            # The last holder has just removed the folder.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return folder, descriptor
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            os.close(folder)
            raise LockedError(f"{what} by {holder}") from None
        os.close(descriptor)
        os.close(folder)


def _opened(path: Path) -> tuple[int, int]:
    """Return descriptors of the folder of `path`, and of `path`, a regular file that is made where it is missing.

    No link leads to another file or folder.
    """
    folder = open_private_folder(path.parent)
    try:
        descriptor = os.open(
            path.name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=folder
        )
    except OSError as error:
        os.close(folder)
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise _not_a_lock(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        os.close(folder)
        raise _not_a_lock(path)
    return folder, descriptor


def _not_a_lock(path: Path) -> NotOursError:
    return NotOursError(f"{path} is a link or no regular file, so it is no lock of ours; remove it")


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether `path` is still the locked file: the last holder may have removed it before the lock was taken."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return terminal_text(f"process {int(note['pid'])} on {note['host']} since {note['since']}")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process"
