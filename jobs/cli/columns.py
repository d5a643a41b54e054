"""Rows of cells -> lines of text in columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """Yield a line for each row; cells are padded to the width of their column, on the left in columns `right`."""
    widths = column_widths(rows)
    for row in rows:
        spaces = [" " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [
            space + cell if n in right else cell + space
            for n, (cell, space) in enumerate(zip(row, spaces, strict=True))
        ]
        yield GAP.join(cells).rstrip()


def column_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of the widest cell of each column, in columns of a terminal."""
    return [max(map(display_width, column)) for column in zip(*rows, strict=True)]


def display_width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
