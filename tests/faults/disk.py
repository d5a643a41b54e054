"""A disk that fails on command: it counts what a process does to a folder, and at the k-th step kills, fails or stops.

It replaces functions of `os` and `io.open` in one process of the tests. A sync is noted and not done, which saves time
and changes nothing: no power fails here.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FaultKind = Literal["none", "kill", "enospc", "eio"]
_THROUGH_FOLDER = re.compile(r"(?P<folder>/proc/(?:self|[0-9]+)/fd/[0-9]+)/(?P<name>.*)", re.DOTALL)
_ERRNO = {"enospc": errno.ENOSPC, "eio": errno.EIO}


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the disk: the action, its path (or its descriptor's path), its content or second path."""

    action: str
    path: str
    content: bytes = b""
    other: str = ""


@dataclass(slots=True)
class FailingDisk:
    """Counts every step below `folder` and lets fault `kind` happen at step number `at` (from 1)."""

    folder: str
    kind: FaultKind = "none"
    at: int = 0
    steps: list[Step] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)

    def step(self, step: Step, halfway: Callable[[], object] = lambda: None) -> None:
        """Take note of a step about to happen; at the chosen one do it `halfway`, and fail."""
        if not step.path.startswith(self.folder):
            return
        self.steps.append(step)
        if len(self.steps) != self.at or self.kind == "none":
            return
        halfway()
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(_ERRNO[self.kind], os.strerror(_ERRNO[self.kind]), step.path)

    def install(self) -> None:
        """Put this disk under the process, for good."""
        self._wrap("replace", lambda source, target: Step("rename", _text(source), other=_text(target)))
        self._wrap("unlink", lambda path, dir_fd=None: Step("unlink", _text(path, dir_fd)))
        self._wrap("rmdir", lambda path, **_: Step("unlink", _text(path)))
        self._wrap("mkdir", lambda path, *_, **__: Step("mkdir", _text(path)))
        os.fsync = lambda fd: self.step(Step("fsync", os.readlink(f"/proc/self/fd/{fd}")))
        self._wrap("pwrite", lambda descriptor, *_: Step("note", os.readlink(f"/proc/self/fd/{descriptor}")))
        opened = io.open

        def fake_open(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if mode not in ("wb", "xb") or not _text(path).startswith(self.folder):
                return opened(path, mode, *arguments, **options)
            self.step(Step("create", _text(path)))
            return io.BufferedWriter(_File(self, _text(path), mode))

        io.open = fake_open  # type: ignore[assignment]

    def _wrap(self, name: str, describe: Callable[..., Step]) -> None:
        real = getattr(os, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.step(describe(*arguments, **options))
            return real(*arguments, **options)

        setattr(os, name, wrapped)


class _File(io.FileIO):
    def __init__(self, disk: FailingDisk, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk
        self._path = path

    def write(self, content: Any) -> int:
        data = bytes(content)
        write = super().write
        self._disk.step(Step("write", self._path, data), lambda: write(data[: len(data) // 2]))
        return write(data)


def _text(path: Any, folder: int | None = None) -> str:
    """Return the path of a file, also of one below an open folder, as a text that begins with the folder's name."""
    text = os.fsdecode(path) if not isinstance(path, Path) else str(path)
    if folder is not None:
        text = f"/proc/self/fd/{folder}/{text}"
    through = _THROUGH_FOLDER.fullmatch(text)
    return f"{os.readlink(through['folder'])}/{through['name']}" if through else text
