"""What persons said, as a column: joined to rows by the sha256 of their photos, for whole tables at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputMissingError
from pipeline.reviews.review_file import reading_reviews, reviews_path, told
from pipeline.reviews.review_store import STANDING
from pipeline.tables.arrow import pa, pc
from pipeline.tables.derived_column import DerivedColumn
from pipeline.tables.reader import read_rows
from pipeline.tables.schema import REVIEWED_LABEL

# The cell of a photo of which a person said that its label cannot be told.
UNKNOWN_LABEL = "unknown"
_OUT_SUFFIXES = (".parquet", ".csv", "")


@dataclass(frozen=True, slots=True)
class ReviewedPhoto:
    """A photo that a person named, as the table knows it: the file's row name, its sha256, and the person's label."""

    file_name: str
    sha256: str
    label: str


def reviewed_label_column(reviews: Path) -> DerivedColumn | None:
    """Return the column `reviewed_label` as the reviews file has it; None where there is no file or no review.

    Raises:
        UsageError: the file is of another program, of a newer version, or a link.
        InputMissingError: the file is damaged or cannot be read.
    """
    with reading_reviews(reviews) as database:
        if database is None or database.execute("SELECT 1 FROM review LIMIT 1").fetchone() is None:
            return None
        standing = list(_standing(database))
    sha256s = pa.array([sha256 for sha256, _ in standing], pa.string())
    labels = pa.array([UNKNOWN_LABEL if label is None else label for _, label in standing], pa.string())

    def values(rows: pa.RecordBatch) -> pa.Array[Any]:
        return labels.take(pc.index_in(rows.column("sha256"), value_set=sha256s))

    return DerivedColumn(REVIEWED_LABEL, ("sha256",), values)


def read_reviewed_rows(table: Path) -> pa.Table:
    """Return the rows of `read_rows` with the column `reviewed_label`, in any case.

    The reviews beside the table say what stands there; without them, the table itself does.

    Raises:
        InputMissingError: there is no table, or the reviews are damaged.
        UsageError: a file is no table of label-dir, or the reviews are of another program or of a newer version.
        OutputError: the table is damaged.
    """
    rows = read_rows(table, with_optional=True)
    derived = reviewed_label_column(reviews_path(table))
    if derived is None and REVIEWED_LABEL.name in rows.schema.names:
        return rows
    if REVIEWED_LABEL.name in rows.schema.names:
        rows = rows.drop_columns([REVIEWED_LABEL.name])
    rows = rows.combine_chunks()
    (batch,) = rows.to_batches() or [pa.RecordBatch.from_pylist([], rows.schema)]
    values = pa.nulls(rows.num_rows, REVIEWED_LABEL.type) if derived is None else derived.values(batch)
    return rows.append_column(REVIEWED_LABEL, values)


def confirmed_labels(reviews: Path) -> Iterator[tuple[str, str]]:
    """Yield the sha256 and the label of each photo whose label a person confirmed or changed, in no certain order.

    A photo of which a person said "unknown" has no label, and a review that was undone says nothing.

    Raises:
        UsageError: the file is of another program, of a newer version, or a link.
        InputMissingError: there is no such file, or it is damaged or cannot be read.
    """
    with reading_reviews(reviews) as database:
        if database is None:
            raise InputMissingError(f"{told(reviews)} does not exist, or holds no review")
        for sha256, label in _standing(database):
            if label is not None:
                yield sha256, label


def reviewed_photos(reviews: Path, table: Path) -> Iterator[ReviewedPhoto]:
    """Yield the photos of `table` whose label a person confirmed or changed, each content once, sorted by file name.

    The file of that name may have other bytes by now: whoever reads it compares its sha256.

    Raises:
        what `confirmed_labels` and `read_rows` raise.
    """
    labels = dict(confirmed_labels(reviews))
    rows = read_rows(table).select(["file_name", "sha256"])
    rows = rows.filter(pc.is_in(rows.column("sha256"), pa.array(list(labels), pa.string())))
    for name, sha256 in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        label = labels.pop(sha256, None)
        if label is not None:
            yield ReviewedPhoto(name, sha256, label)


def table_of(reviews: Path) -> Path:
    """Return the table, or the folder of parts, that lies beside a reviews file.

    Raises:
        InputMissingError: there is none.
    """
    stem = reviews.name.removesuffix(".sqlite").removesuffix(".reviews")
    for suffix in _OUT_SUFFIXES:
        table = reviews.with_name(stem + suffix)
        if table != reviews and table.exists() and reviews_path(table) == reviews.resolve():
            return table
    raise InputMissingError(f"{told(reviews)} has no table {stem}.parquet or {stem}.csv beside it")


def _standing(database: sqlite3.Connection) -> Iterator[tuple[str, str | None]]:
    """Yield each photo with the label of its standing review, None for "unknown"."""
    # Of a group SQLite gives the bare columns of the row that has the maximum.
    for sha256, label, _ in database.execute(
        f"SELECT sha256, new_label, max(id) FROM review WHERE {STANDING} GROUP BY sha256"
    ):
        yield sha256, label
