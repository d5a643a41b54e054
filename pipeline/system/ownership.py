"""Folders and files that a command may replace or remove, because a marker inside says whose they are.

A folder of state carries a marker file (JSON) that names what the folder is and what it belongs to. A folder without
one, of another owner, or of another output is left alone: its path alone never proves that it may be changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.system.atomic_file import replace_quickly, write_atomically
from models.system.outside_text import terminal_text
from pipeline.errors import UsageError

MARKER_NAME = "label-dir.json"
_LONGEST_MARKER_BYTES = 65536
_PRIVATE_MODE = 0o700
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotOursError(UsageError):
    """A file or folder in the way that no marker shows to be this command's own."""


@dataclass(frozen=True, slots=True)
class Owner:
    """What a marker says: the kind of thing ("state of a table", "dataset" ...) and the path or name it belongs to."""

    kind: str
    of: str


def claim_folder(
    folder: Path, owner: Owner, is_known: Callable[[str], bool] = lambda name: False, *, is_durable: bool = True
) -> None:
    """Make `folder` with a marker of `owner`, or find there the folder that carries that very marker.

    A folder without a marker is taken over if it is empty, or if each file in it has a name that `is_known`: the
    folder was made by a version without markers, or a loss of power took the marker. A new folder is private to the
    user (mode 0700). With `is_durable` false, a loss of power may take the marker, and starting takes no fsync.

    Raises:
        NotOursError: the folder is a link, belongs to another user, or holds something else.
        OSError: the folder cannot be made or read.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, _PRIVATE_MODE)
    descriptor = open_private_folder(folder)
    try:
        if not has_marker(folder, owner, is_known):
            write = write_atomically if is_durable else replace_quickly
            marker = path_through(descriptor, folder) / MARKER_NAME
            write(marker, json.dumps({"label_dir": owner.kind, "of": owner.of}).encode())
    finally:
        os.close(descriptor)


def has_marker(folder: Path, owner: Owner, is_known: Callable[[str], bool] = lambda name: False) -> bool:
    """Tell whether `folder` carries the marker of `owner`; False where `claim_folder` may still write that marker.

    Raises:
        NotOursError: the folder belongs to another owner, or holds something else.
        OSError: the folder cannot be read.
    """
    found = owner_of(folder)
    if found == owner:
        return True
    if found is not None:
        raise NotOursError(
            f"{_told(folder)} is the {terminal_text(found.kind)} of {terminal_text(found.of)}, not the {owner.kind} of "
            f"{terminal_text(owner.of)}; move it away, or choose another name"
        )
    if not all(name == MARKER_NAME or is_known(name) for name in os.listdir(folder)):
        raise NotOursError(f"{_told(folder)} holds files and no {MARKER_NAME}, so it is not ours; move it away")
    return False


def open_private_folder(folder: Path) -> int:
    """Return a descriptor of `folder`, in which no other user can exchange files under our hands.

    Raises:
        NotOursError: the folder is a link or no folder, belongs to another user, or can be written by others.
        OSError: the folder cannot be opened.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        # Also for a link: of its two mistakes Linux reports this one.
        raise NotOursError(f"{_told(folder)} is a link or a file, not a folder; move it away") from None
    try:
        facts = os.fstat(descriptor)
        is_open_to_others = facts.st_mode & _WRITABLE_BY_OTHERS
        if facts.st_uid not in (os.geteuid(), 0):
            raise NotOursError(f"{_told(folder)} belongs to another user (uid {facts.st_uid}); choose another name")
        if is_open_to_others and facts.st_uid == os.geteuid():
            # Made by an earlier version under a lax umask.
            os.fchmod(descriptor, stat.S_IMODE(facts.st_mode) & ~_WRITABLE_BY_OTHERS)
        elif is_open_to_others:
            raise NotOursError(f"{_told(folder)} can be written by other users; run chmod go-w on it, or remove it")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def path_through(descriptor: int, folder: Path) -> Path:
    """Return a path that leads to the open folder itself while `descriptor` is open, whatever lies at `folder` by then.

    A folder of ours may lie in a folder where another user exchanges it for a link. Without /proc, the path of the
    folder is returned.
    """
    through = Path(f"/proc/self/fd/{descriptor}")
    return through if through.exists() else folder


def owner_of(folder: Path) -> Owner | None:
    """Return what the marker in `folder` says; None where there is no marker, or none that can be understood.

    Raises:
        OSError: the marker is there and cannot be read.
    """
    try:
        descriptor = os.open(folder / MARKER_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = stream.read(_LONGEST_MARKER_BYTES)
    try:
        document = json.loads(content)
        kind, of = document["label_dir"], document["of"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return Owner(kind, of) if isinstance(kind, str) and isinstance(of, str) else None


def _told(folder: Path) -> str:
    return terminal_text(str(folder))
