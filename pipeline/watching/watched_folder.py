"""The watched folder: whether it is there, which of its paths are photos, and whether it is on a network share."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import stat
from pathlib import Path

from pipeline.errors import InputMissingError
from pipeline.records import FileRef, mtime_us_of
from pipeline.sources.file_names import display_name
from pipeline.sources.photo_names import name_filter
from pipeline.sources.walk import WalkRules

MARKER_PREFIX = ".watch-folder"
_MARKER_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
# On these file systems a write by another machine makes no event here, although inotify accepts the watch.
_NETWORK_TYPES = frozenset(
    [
        *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
    ]
)
_MOUNT_INFO = Path("/proc/self/mountinfo")


class WatchedFolder:
    """A folder that photos arrive in, with the rules that say which files are photos.

    A hidden marker file distinguishes the folder from the empty mount point below it, and is the heartbeat of events.
    Each output has a marker of its own: watchers of one folder with different outputs do not remove each other's.
    """

    def __init__(self, folder: Path, rules: WalkRules, output: Path) -> None:
        self.folder = folder.resolve()
        self.rules = rules
        self.marker = self.folder / f"{MARKER_PREFIX}-{output_id(output)}"
        self.has_marker = False
        self._has_stable_inodes = not self.is_on_network()
        self._is_included = name_filter(rules.include, rules.exclude)
        self._marked_as: os.stat_result | None = None

    def place_marker(self) -> None:
        """Make the marker; without permission to, the folder is recognised by its device and inode alone.

        Raises:
            InputMissingError: the path is no folder, or cannot be listed.
        """
        try:
            with os.scandir(self.folder):
                pass
            self._marked_as = os.stat(self.folder)
        except OSError as error:
            raise InputMissingError(f"{self.folder} cannot be listed: {error.strerror}") from error
        with contextlib.suppress(OSError):
            self.touch_marker(create=True)
            self.has_marker = True

    def touch_marker(self, create: bool = False) -> None:
        """Open the marker for writing and close it, which makes an event; never waits, whatever has the marker's name.

        Writing would fail on a full disk. Without `create` a marker that is gone stays gone.

        Raises:
            OSError: the marker is gone, or is no regular file.
        """
        descriptor = os.open(self.marker, _MARKER_FLAGS | (os.O_CREAT if create else 0), 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError(errno.ENOENT, "no regular file", str(self.marker))
        finally:
            os.close(descriptor)

    def remove_marker(self) -> None:
        """Delete the marker."""
        if self.has_marker:
            with contextlib.suppress(OSError):
                self.marker.unlink()

    def absence_reason(self) -> str | None:
        """Return why the folder is not the one that was marked, None if it is."""
        try:
            if self.has_marker:
                if stat.S_ISREG(os.lstat(self.marker).st_mode):
                    return None
                return f"its marker {self.marker.name} was replaced by something else (remove it, and create a file)"
            facts = os.stat(self.folder)
            with os.scandir(self.folder) as entries:
                is_empty = next(entries, None) is None
        except FileNotFoundError:
            if self.folder.is_dir():
                return f"its marker {self.marker.name} is gone (unmounted? If all is well, create it)"
            return "the folder is gone"
        except OSError as error:
            return error.strerror or str(error)
        is_same = self._marked_as is not None and os.path.samestat(facts, self._marked_as)
        return "it is empty and not the folder it was" if is_empty and not is_same else None

    def stat(self, path: str) -> FileRef | None:
        """Return the photo at `path` as it is now; None if there is none, or the rules exclude it."""
        if not path.startswith(f"{self.folder}/"):
            return None
        name = self._included_name(path)
        if name is None:
            return None
        try:
            facts = os.stat(path, follow_symlinks=self.rules.follow_links)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(facts.st_mode):
            return None
        mtime_us = mtime_us_of(facts)
        return self.without_unstable_inode(
            FileRef(name, path, facts.st_size, mtime_us, facts.st_ino, facts.st_ctime_ns)
        )

    def without_unstable_inode(self, ref: FileRef) -> FileRef:
        """Return `ref`; on a network share without its inode, which such a share may number anew at any time."""
        return ref if self._has_stable_inodes else ref._replace(inode=0)

    def includes(self, path: str) -> bool:
        """Tell whether the rules include a file at `path`, whether it exists or not."""
        return self._included_name(path) is not None

    def includes_folder(self, path: str) -> bool:
        """Tell whether the rules include photos in the folder at `path`."""
        return self._includes_parents_of(self.row_name(path) + "/") and not self._is_avoided(path)

    def row_name(self, path: str) -> str:
        """Return the row name of a path below the folder."""
        return display_name(self._relative(path))

    def is_on_network(self) -> bool:
        """Tell whether the folder is on a network share: changes by other machines make no events here."""
        kind = file_system_type(self.folder)
        return kind in _NETWORK_TYPES or kind.startswith("fuse")

    def _relative(self, path: str) -> str:
        return path[len(str(self.folder)) + 1 :]

    def _included_name(self, path: str) -> str | None:
        relative = self._relative(path)
        if any(part.startswith(".") for part in relative.split("/")) or self._is_avoided(path):
            return None
        name = display_name(relative)
        return name if self._includes_parents_of(name) and self._is_included(name, False) else None

    def _includes_parents_of(self, name: str) -> bool:
        slashes = [index for index, character in enumerate(name) if character == "/"]
        return all(self._is_included(name[: slash + 1], True) for slash in slashes)

    def _is_avoided(self, path: str) -> bool:
        return any(str(place) in self.rules.avoid for place in (Path(path), *Path(path).parents))


def output_id(output: Path) -> str:
    """Return 12 hexadecimal digits by which files in a folder that hosts share are known as those of one output."""
    # Hosts that share the folder may use the same path for different outputs.
    owner = f"{socket.gethostname()}:{output.resolve()}"
    return hashlib.sha256(os.fsencode(owner)).hexdigest()[:12]


def file_system_type(folder: Path) -> str:
    """Return the kernel's name for the type of the file system of `folder`, "" if it is unknown."""
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
