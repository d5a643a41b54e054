"""A lock file for one writer per output: the kernel frees it when the holder dies, and it names the holder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from models.system.atomic_file import sync_folder
from pipeline.errors import LockedError


@contextlib.contextmanager
def held(path: Path, what: str, doing: str = "written") -> Iterator[None]:
    """Hold a lock on the file `path` while the block runs; makes its folder and the file, and removes them after.

    The kernel releases the lock when the process ends, however it ends. A second process reads in its error that
    `what` is being `doing`. The folder stays if other files are in it.

    Raises:
        LockedError: another process holds the lock; the message says which, and since when.
        OSError: the file cannot be made.
    """
    descriptor = _locked(path, f"{what} is being {doing}")
    try:
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S%z")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()
        os.close(descriptor)


def _locked(path: Path, what: str) -> int:
    while True:
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir()
            # Without this a power cut may remove the folder, and with it the files that were made durable in it.
            sync_folder(path.parent.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            # The last holder has just removed the folder.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise LockedError(f"{what} by {holder}") from None
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether `path` is still the locked file: the last holder may have removed it before the lock was taken."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(note['pid'])} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
