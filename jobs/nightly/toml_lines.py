"""The line of each key in a TOML text; tomllib returns only the values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

Place = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
_MULTI_LINE_QUOTES = ('"""', "'''")


def line_numbers(text: str) -> dict[Place, int]:
    """Return the line (from 1) of each table and key of a valid TOML `text`; inline tables have one line."""
    lines: dict[Place, int] = {}
    table: Place = ()
    tables_of: Counter[Place] = Counter()
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if line.count(inside) % 2 else inside
            continue
        if header := _HEADER.match(line):
            table = tuple(_parts(header[2]))
            if header[1] == "[[":
                tables_of[table] += 1
                table = (*table, tables_of[table] - 1)
            lines[table] = number
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_parts(key[1])), number)
        inside = next((quotes for quotes in _MULTI_LINE_QUOTES if line.count(quotes) % 2), "")
    return lines


def line_of(place: Place, lines: Mapping[Place, int]) -> int | None:
    """Return the line of `place`, or of the innermost table or key that contains `place`."""
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]
