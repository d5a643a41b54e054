"""A query of a table -> lines of text in columns."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.cli.columns import GAP, aligned, column_widths, display_width
from models.system.outside_text import terminal_text
from pipeline.tables.arrow import pa, pc
from pipeline.tables.reader import top_k_of_rows
from pipeline.tables.schema import REVIEWED_LABEL


@dataclass(frozen=True, slots=True)
class Query:
    """The rows to show, at most `limit` of them, in which order, or only their counts; None filters nothing.

    With `reviewed`, the rows have the column `reviewed_label`.
    """

    label: str | None = None
    text: str | None = None
    min_prob: float | None = None
    max_prob: float | None = None
    errors: bool = False
    count: bool = False
    sort: str = "name"
    limit: int = 50
    unsure: bool = False
    reviewed: bool = False


def show(rows: pa.Table, query: Query) -> tuple[Iterator[str], int]:
    """Return the lines that answer `query`, the first a heading, and how many rows the limit left out."""
    found = _matching(rows, query)
    if query.count:
        heading, cells = _counted(found, query)
        shown, total = cells[: query.limit or None], len(cells)
    else:
        if query.sort == "prob" and not query.errors:
            found = found.take(pc.sort_indices(found, [("prob_1", "ascending"), ("file_name", "ascending")]))
        heading, shown = _rows(found.slice(0, query.limit or None), query)
        total = found.num_rows
    return _lines(heading, shown), total - len(shown)


def _matching(rows: pa.Table, query: Query) -> pa.Table:
    is_error = pc.equal(rows.column("status"), pa.scalar("error"))
    rows = rows.filter(is_error if query.errors else pc.invert(is_error))
    if query.reviewed:
        rows = rows.filter(pc.is_valid(rows.column(REVIEWED_LABEL.name)))
    if query.unsure:
        rows = rows.filter(pc.equal(rows.column("status"), pa.scalar("unsure")))
    if query.text:
        pattern = re.escape(query.text)
        in_name = pc.match_substring_regex(rows.column("file_name"), pattern, ignore_case=True)
        in_label = pc.match_substring_regex(rows.column("label_1"), pattern, ignore_case=True)
        rows = rows.filter(pc.or_kleene(in_name, in_label))
    if query.errors:
        return rows
    if query.label:
        pattern = rf"(^|\W){re.escape(query.label)}($|\W)"
        rows = rows.filter(pc.match_substring_regex(rows.column("label_1"), pattern, ignore_case=True))
    if query.min_prob is not None:
        rows = rows.filter(pc.greater_equal(rows.column("prob_1"), pa.scalar(query.min_prob, pa.float32())))
    if query.max_prob is not None:
        rows = rows.filter(pc.less_equal(rows.column("prob_1"), pa.scalar(query.max_prob, pa.float32())))
    return rows


def _counted(rows: pa.Table, query: Query) -> tuple[list[str], list[list[str]]]:
    column = "error" if query.errors else REVIEWED_LABEL.name if query.reviewed else "label_1"
    names = [str(name) for name in rows.column(column).to_pylist()]
    counts = Counter(name.partition(":")[0] if query.errors else name for name in names)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    heading = "ERROR" if query.errors else "REVIEWED" if query.reviewed else "LABEL"
    return ["PHOTOS", heading], [[str(count), name] for name, count in ordered]


def _rows(rows: pa.Table, query: Query) -> tuple[list[str], list[list[str]]]:
    if query.errors:
        return ["FILE", "ERROR"], [
            [str(row["file_name"]), str(row["error"])] for row in rows.select(["file_name", "error"]).to_pylist()
        ]
    ranks = range(1, top_k_of_rows(rows) + 1)
    shown = ["file_name", *(f"{kind}_{rank}" for rank in ranks for kind in ("label", "prob"))]
    shown += [REVIEWED_LABEL.name] if query.reviewed else []
    cells = []
    for row in rows.select(shown).to_pylist():
        pairs = [_pair(row[f"label_{rank}"], row[f"prob_{rank}"]) for rank in ranks]
        said = [str(row[REVIEWED_LABEL.name])] if query.reviewed else []
        cells.append([str(row["file_name"]), *said, *pairs])
    return ["FILE", *(["REVIEWED"] if query.reviewed else []), *(f"LABEL {rank}" for rank in ranks)], cells


def _pair(label: str | None, probability: float | None) -> str:
    return "" if label is None or probability is None else f"{probability:4.0%} {label}"


def _lines(heading: Sequence[str], cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return lines in columns; at a terminal, long cells are cut so that a row stays one line."""
    table = [list(heading), *([terminal_text(cell) for cell in row] for row in cells)]
    if sys.stdout.isatty():
        widths = _fitting(column_widths(table), shutil.get_terminal_size().columns)
        table = [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in table]
    return aligned(table, right=(0,) if heading[0] == "PHOTOS" else ())


def _fitting(widths: Sequence[int], columns: int) -> list[int]:
    """Narrow the widest column until all fit, but none to less than a few letters."""
    fitting = list(widths)
    while sum(fitting) + len(GAP) * (len(fitting) - 1) > columns and max(fitting) > 8:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting


def _cut(text: str, width: int) -> str:
    if display_width(text) <= width:
        return text
    while text and display_width(text) > width - 1:
        text = text[:-1]
    return text + "…"
