"""A disk after the power fails: synced files and names are certain; the rest is there, torn or not there."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.faults.disk import Step


class Survival(StrEnum):
    """How a file system may treat files and names that were not synced."""

    NOTHING = "nothing unsynced survives"
    NAMES = "names survive, unsynced bytes do not"
    HALF = "names survive, half of the unsynced bytes too"


@dataclass(slots=True)
class _Inode:
    content: bytes = b""
    synced: bytes = b""


@dataclass(slots=True)
class Disk:
    """A model of the folder `root`: names now and names for certain, contents now and contents for certain."""

    root: str
    names: dict[str, _Inode] = field(default_factory=dict)
    synced_names: dict[str, _Inode] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    synced_folders: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, root: Path) -> Disk:
        """The disk as it is, all of it certain."""
        disk = cls(str(root))
        for path in root.iterdir():
            if path.is_file():
                content = path.read_bytes()
                disk.names[str(path)] = disk.synced_names[str(path)] = _Inode(content, content)
        return disk

    def take(self, step: Step) -> None:
        """Apply one step."""
        if step.action == "create":
            self.names[step.path] = _Inode()
        elif step.action == "write":
            self.names[step.path].content += step.content
        elif step.action == "rename":
            self.names[step.other] = self.names.pop(step.path)
        elif step.action == "unlink":
            self.names.pop(step.path, None)
            self.folders.discard(step.path)
        elif step.action == "mkdir":
            self.folders.add(step.path)
        elif step.action == "fsync":
            self._sync(step.path)

    def _sync(self, path: str) -> None:
        if path in self.names:
            self.names[path].synced = self.names[path].content
            return
        for names, synced in ((self.names, self.synced_names),):
            for name in [name for name in synced if _parent(name) == path]:
                del synced[name]
            synced.update({name: inode for name, inode in names.items() if _parent(name) == path})
        self.synced_folders = {f for f in self.synced_folders if _parent(f) != path} | {
            folder for folder in self.folders if _parent(folder) == path
        }

    def write_to(self, root: Path, survival: Survival) -> None:
        """Fill the folder `root` with the files that this disk may hold if the power fails now."""
        shutil.rmtree(root)
        root.mkdir()
        certain = survival is Survival.NOTHING
        for folder in self.synced_folders if certain else self.folders:
            Path(folder).mkdir()
        for name, inode in (self.synced_names if certain else self.names).items():
            if Path(name).parent.is_dir():
                Path(name).write_bytes(_surviving(inode, survival))


def disk_after(before: Disk, steps: Sequence[Step]) -> Disk:
    """The disk `before` after `steps`."""
    for step in steps:
        before.take(step)
    return before


def _surviving(inode: _Inode, survival: Survival) -> bytes:
    if survival is not Survival.HALF:
        return inode.synced
    return inode.content[: (len(inode.synced) + len(inode.content)) // 2]


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
