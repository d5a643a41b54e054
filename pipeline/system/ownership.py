"""Folders and files that a command may replace or remove, because a marker inside says whose they are.

A folder of state carries a marker file (JSON) that names what the folder is and what it belongs to. A folder without
one, of another owner, or of another output is left alone: its path alone never proves that it may be changed.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from models.system.atomic_file import replacing
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


def claim_folder(folder: Path, owner: Owner) -> None:
    """Make `folder` with a marker of `owner`, or find there the folder that carries that very marker.

    An empty folder of this user is taken over. The folder is private to the user (mode 0700) when it is made here.

    Raises:
        NotOursError: the folder is a link, belongs to another user, or holds something else.
        OSError: the folder cannot be made or read.
    """
    try:
        os.mkdir(folder, _PRIVATE_MODE)
    except FileExistsError:
        _refuse_unsafe(folder)
    found = owner_of(folder)
    if found is None:
        if any(name != MARKER_NAME for name in os.listdir(folder)):
            raise NotOursError(f"{_told(folder)} holds files and no {MARKER_NAME}, so it is not ours; move it away")
        _write_marker(folder, owner)
    elif found != owner:
        raise NotOursError(
            f"{_told(folder)} is the {terminal_text(found.kind)} of {terminal_text(found.of)}, not the {owner.kind} of "
            f"{terminal_text(owner.of)}; move it away, or choose another name"
        )


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


def _refuse_unsafe(folder: Path) -> None:
    """Refuse a folder in which another user could exchange files under our hands."""
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode):
        raise NotOursError(f"{_told(folder)} is no folder; move it away")
    if facts.st_uid not in (os.geteuid(), 0):
        raise NotOursError(f"{_told(folder)} belongs to another user (uid {facts.st_uid}); choose another name")
    if facts.st_mode & _WRITABLE_BY_OTHERS and facts.st_uid == os.geteuid():
        # Made by an earlier version under a lax umask.
        os.chmod(folder, stat.S_IMODE(facts.st_mode) & ~_WRITABLE_BY_OTHERS)
    elif facts.st_mode & _WRITABLE_BY_OTHERS:
        raise NotOursError(f"{_told(folder)} can be written by other users; run chmod go-w on it, or remove it")


def _write_marker(folder: Path, owner: Owner) -> None:
    with replacing(folder / MARKER_NAME) as stream:
        stream.write(json.dumps({"label_dir": owner.kind, "of": owner.of}).encode())


def _told(folder: Path) -> str:
    return terminal_text(str(folder))
