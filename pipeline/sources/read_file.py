"""Path -> bytes: the one place that reads an untrusted file, whole, and checks that it did not change meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from pipeline.defaults import DEFAULT_MAX_BYTES, DEFAULT_MAX_PIXELS
from pipeline.records import ErrorClass, ItemError, mtime_us_of

_READS_OF_A_CHANGING_FILE = 2


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How many bytes of a file are read and how many pixels decoded at most; whether links are opened."""

    file_bytes: int = DEFAULT_MAX_BYTES
    pixels: int = DEFAULT_MAX_PIXELS
    follow_links: bool = False


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file's content with its size and `mtime_us` (since 1970, UTC) while it was read; `etag` is an object's."""

    content: bytes
    mtime_us: int
    etag: str | None = None


def read_file(path: str, limits: ReadLimits) -> FileBytes | ItemError:
    """Return the whole content of the file at `path`, or why there is none; a file that changes is read twice."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if limits.follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        return _why_not(error)
    try:
        for _ in range(_READS_OF_A_CHANGING_FILE):
            found = _read_once(descriptor, limits)
            if found is not None:
                return found
    except OSError as error:
        return _why_not(error)
    except MemoryError:
        return ItemError(ErrorClass.TOO_LARGE, "reading needs more memory than a decoder may have")
    finally:
        os.close(descriptor)
    return ItemError(ErrorClass.CHANGED, "the file changed while it was read")


def _read_once(descriptor: int, limits: ReadLimits) -> FileBytes | ItemError | None:
    """Return the content, or the reason why there is none; None where the file changed meanwhile."""
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        return ItemError(ErrorClass.IO, "not a regular file")
    if before.st_size > limits.file_bytes:
        return ItemError(ErrorClass.TOO_LARGE, f"{before.st_size} bytes, the limit is {limits.file_bytes}")
    content = _read_all(descriptor, before.st_size)
    after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(content) != after.st_size:
        return None
    if not content:
        return ItemError(ErrorClass.EMPTY, "the file has no bytes")
    return FileBytes(content, mtime_us_of(after))


def _read_all(descriptor: int, size_bytes: int) -> bytes:
    pieces: list[bytes] = []
    offset = 0
    while offset <= size_bytes:
        piece = os.pread(descriptor, size_bytes + 1 - offset, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _why_not(error: OSError | ValueError) -> ItemError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ItemError(ErrorClass.VANISHED, "the file was gone when it was to be read")
    if isinstance(error, PermissionError):
        return ItemError(ErrorClass.PERMISSION, "no permission to read the file")
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return ItemError(ErrorClass.IO, "a link, and links are not followed")
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ItemError(ErrorClass.IO, reason)
