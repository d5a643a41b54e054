"""A photo that came through a connection: bytes in memory without a name, which decode workers open like a file."""

from __future__ import annotations

import fcntl
import os

from pipeline.records import FileRef, mtime_us_of

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Upload:
    """The bytes of one photo in an anonymous `memfd`, and the file name that its sender gave.

    Nothing is written to a disk, and nothing is left behind when every process is killed. `close` frees the memory.
    """

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name
        self.size_bytes = 0
        self._descriptor = os.memfd_create("label-serve", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def write(self, chunk: bytes | memoryview) -> None:
        """Append `chunk`. Raises OSError."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size_bytes += len(chunk)

    def sealed_ref(self, name: str) -> FileRef:
        """Make the bytes unchangeable and return them as the file `name`; its time is that of the last byte."""
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _SEALS)
        facts = os.fstat(self._descriptor)
        return FileRef(name, f"/proc/{os.getpid()}/fd/{self._descriptor}", facts.st_size, mtime_us_of(facts))

    @property
    def is_open(self) -> bool:
        """Whether the bytes still take memory."""
        return self._descriptor >= 0

    def close(self) -> None:
        """Free the bytes; no worker may have them to decode."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
