"""The watched folder: is it there, what kind of file system is it, and what is one path in it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from pipeline.errors import InputMissingError
from pipeline.records import FileRef
from pipeline.sources.file_names import display_name
from pipeline.sources.walk import WalkRules, name_filter

MARKER_NAME = ".watch-folder"
# No event crosses these when another machine writes, whatever inotify says.
_NETWORK_TYPES = frozenset(
    [
        *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    ]
)
_MOUNT_INFO = Path("/proc/self/mountinfo")


class WatchedFolder:
    """A folder that photos arrive in, with the rules that say which files are photos.

    A hidden marker file tells the folder from the empty mount point it may lie on, and is the heartbeat of events.
    """

    def __init__(self, folder: Path, rules: WalkRules) -> None:
        self.folder = folder.resolve()
        self.rules = rules
        self.marker = self.folder / MARKER_NAME
        self.has_marker = False
        self._wanted = name_filter(rules)
        self._identity = (0, 0)

    def enter(self) -> None:
        """Put the marker there; without permission to, the folder is told by its identity alone.

        Raises:
            InputMissingError: it is no folder, or cannot be listed.
        """
        try:
            with os.scandir(self.folder):
                pass
            self._identity = self._identity_now()
        except OSError as error:
            raise InputMissingError(f"{self.folder} cannot be listed: {error.strerror}") from error
        with contextlib.suppress(OSError):
            self.marker.touch()
            self.has_marker = True

    def leave(self) -> None:
        """Take the marker away."""
        if self.has_marker:
            with contextlib.suppress(OSError):
                self.marker.unlink()

    def absent_because(self) -> str | None:
        """Return why the folder is not what it was, None where it is."""
        try:
            if self.has_marker:
                os.stat(self.marker)
                return None
            identity = self._identity_now()
            with os.scandir(self.folder) as entries:
                is_empty = next(entries, None) is None
        except FileNotFoundError:
            if self.folder.is_dir():
                return f"its marker {MARKER_NAME} is gone (unmounted? If all is well, create it)"
            return "the folder is gone"
        except OSError as error:
            return error.strerror or str(error)
        return "it is empty and not the folder it was" if is_empty and identity != self._identity else None

    def look(self, path: str) -> FileRef | None:
        """Return the photo at `path`; None where there is none, or none that is wanted."""
        root = f"{self.folder}/"
        if not path.startswith(root):
            return None
        relative = path[len(root) :]
        name = self._wanted_name(relative)
        if name is None or self._is_avoided(relative):
            return None
        try:
            facts = os.stat(path, follow_symlinks=self.rules.follow_links)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(facts.st_mode):
            return None
        return FileRef(name, path, facts.st_size, facts.st_mtime_ns // 1000, facts.st_ino)

    def wants(self, path: str) -> bool:
        """Tell whether a file at `path`, there or not, belongs to it by its name."""
        relative = path[len(str(self.folder)) + 1 :]
        return self._wanted_name(relative) is not None and not self._is_avoided(relative)

    def wants_folder(self, path: str) -> bool:
        """Tell whether photos in a folder below the inbox belong to it."""
        relative = path[len(str(self.folder)) + 1 :]
        return self._wants_folders_of(display_name(relative) + "/") and not self._is_avoided(relative)

    def name_of(self, path: str) -> str:
        """Return the row name of a path below the folder."""
        return display_name(path[len(str(self.folder)) + 1 :])

    def is_on_network(self) -> bool:
        """Tell whether the folder's file system is one whose changes make no events here."""
        kind = file_system_type(self.folder)
        return kind in _NETWORK_TYPES or kind.startswith("fuse")

    def _wanted_name(self, relative: str) -> str | None:
        if any(part.startswith(".") for part in relative.split("/")):
            return None
        name = display_name(relative)
        return name if self._wants_folders_of(name) and self._wanted(name, False) else None

    def _wants_folders_of(self, name: str) -> bool:
        slashes = [index for index, character in enumerate(name) if character == "/"]
        return all(self._wanted(name[: slash + 1], True) for slash in slashes)

    def _is_avoided(self, relative: str) -> bool:
        path = self.folder / relative
        return any(str(place) in self.rules.avoid for place in (path, *path.parents))

    def _identity_now(self) -> tuple[int, int]:
        facts = os.stat(self.folder)
        return facts.st_dev, facts.st_ino


def file_system_type(folder: Path) -> str:
    """Return the kernel's name for the type of the file system that `folder` lies on, "" where it is not known."""
    best, kind = -1, ""
    try:
        lines = _MOUNT_INFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if len(point) >= best and (folder == Path(point) or Path(point) in folder.parents):
            best, kind = len(point), after.split()[0]
    return kind
