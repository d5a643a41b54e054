"""How a file's name is written in tables, CSV files, terminals and logs."""

from __future__ import annotations

import os
import re
import unicodedata

_MISTAKABLE_BACKSLASH = re.compile(rb"\\(?=x[0-9a-f]{2})")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


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


def csv_name(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula: `=1+1.jpg` is the same file as `./=1+1.jpg`."""
    return f"./{name}" if name.startswith(_FORMULA_STARTS) else name


def printable(text: str) -> str:
    """Return `text` with control, format and surrogate characters escaped, fit for a terminal or a log line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _is_harmless(character) else _escaped(character) for character in text)


def _is_harmless(character: str) -> bool:
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
