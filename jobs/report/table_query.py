"""Questions about a table -> lines of text in columns."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.sources.file_names import printable
from pipeline.tables.arrow import pa, pc
from pipeline.tables.reader import top_k_of_rows

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Question:
    """Which rows, how many of them, in which order, or only their counts; None asks nothing."""

    label: str | None = None
    text: str | None = None
    min_prob: float | None = None
    max_prob: float | None = None
    errors: bool = False
    count: bool = False
    sort: str = "name"
    limit: int = 50


def show(rows: pa.Table, question: Question) -> tuple[Iterator[str], int]:
    """Return the lines that answer `question`, the first a heading, and how many rows the limit left out."""
    found = _matching(rows, question)
    if question.count:
        heading, cells = _counted(found, question)
    else:
        if question.sort == "prob" and not question.errors:
            found = found.take(pc.sort_indices(found, [("prob_1", "ascending"), ("file_name", "ascending")]))
        limit = question.limit or found.num_rows
        heading, cells = _rows(found.slice(0, limit), question.errors)
        return _aligned(heading, cells), max(0, found.num_rows - limit)
    limit = question.limit or len(cells)
    return _aligned(heading, cells[:limit]), max(0, len(cells) - limit)


def _matching(rows: pa.Table, question: Question) -> pa.Table:
    rows = rows.filter(pc.equal(rows.column("status"), pa.scalar("error" if question.errors else "ok")))
    if question.text:
        pattern = re.escape(question.text)
        in_name = pc.match_substring_regex(rows.column("file_name"), pattern, ignore_case=True)
        in_label = pc.match_substring_regex(rows.column("label_1"), pattern, ignore_case=True)
        rows = rows.filter(pc.or_kleene(in_name, in_label))
    if question.errors:
        return rows
    if question.label:
        pattern = rf"(^|\W){re.escape(question.label)}($|\W)"
        rows = rows.filter(pc.match_substring_regex(rows.column("label_1"), pattern, ignore_case=True))
    if question.min_prob is not None:
        rows = rows.filter(pc.greater_equal(rows.column("prob_1"), pa.scalar(question.min_prob, pa.float32())))
    if question.max_prob is not None:
        rows = rows.filter(pc.less_equal(rows.column("prob_1"), pa.scalar(question.max_prob, pa.float32())))
    return rows


def _counted(rows: pa.Table, question: Question) -> tuple[list[str], list[list[str]]]:
    names = rows.column("error" if question.errors else "label_1").to_pylist()
    if question.errors:
        names = [str(name).partition(":")[0] for name in names]
    counts: dict[str, int] = {}
    for name in names:
        counts[str(name)] = counts.get(str(name), 0) + 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return ["PHOTOS", "ERROR" if question.errors else "LABEL"], [[str(count), name] for name, count in ordered]


def _rows(rows: pa.Table, errors: bool) -> tuple[list[str], list[list[str]]]:
    if errors:
        return ["FILE", "ERROR"], [[str(row["file_name"]), str(row["error"])] for row in rows.to_pylist()]
    ranks = range(1, top_k_of_rows(rows) + 1)
    cells = []
    for row in rows.to_pylist():
        pairs = [_pair(row[f"label_{rank}"], row[f"prob_{rank}"]) for rank in ranks]
        cells.append([str(row["file_name"]), *pairs])
    return ["FILE", *(f"LABEL {rank}" for rank in ranks)], cells


def _pair(label: str | None, probability: float | None) -> str:
    return "" if label is None or probability is None else f"{probability:4.0%} {label}"


def _aligned(heading: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines in columns; at a terminal, long cells are cut so that a row stays one line."""
    table = [list(heading), *([printable(cell) for cell in row] for row in cells)]
    widths = [max(_width(row[column]) for row in table) for column in range(len(heading))]
    if sys.stdout.isatty():
        widths = _fitting(widths, shutil.get_terminal_size().columns)
        table = [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in table]
    numeric = heading[0] == "PHOTOS"
    for row in table:
        padded = [
            _padded(cell, width, numeric and n == 0) for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield _GAP.join(padded).rstrip()


def _fitting(widths: Sequence[int], columns: int) -> list[int]:
    """Take from the widest column until all fit, but leave each its first few letters."""
    fitting = list(widths)
    while sum(fitting) + len(_GAP) * (len(fitting) - 1) > columns and max(fitting) > 8:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while text and _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _padded(text: str, width: int, to_the_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if to_the_right else text + space
