"""How a file's name is written in tables."""

from __future__ import annotations

import os
import re

_MISTAKABLE_BACKSLASH = re.compile(rb"\\(?=x[0-9a-f]{2})")


def display_name(path: str) -> str:
    r"""Return `path` as valid Unicode: bytes that are not UTF-8 become `\xNN`.

    A backslash in the name that would read as such an escape becomes `\x5c`, so that no two files share a name.
    """
    if path.isascii() and "\\" not in path:
        return path
    raw = _MISTAKABLE_BACKSLASH.sub(rb"\\x5c", os.fsencode(path))
    return raw.decode("utf-8", "backslashreplace")


def file_system_name(name: str) -> str:
    """Return the name that `os` functions take; the inverse of `display_name`."""
    if "\\" not in name:
        return name
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), os.fsencode(name))
    return os.fsdecode(raw)
