"""The labelled photos of a table for the desk: each content once, in columns, in the orders of a review."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.system.outside_text import SHA256_PATTERN
from pipeline.tables.arrow import pa, pc
from pipeline.tables.foreign_format import is_label_column
from pipeline.tables.reader import read_rows

Positions = NDArray[np.int64]


class Order(StrEnum):
    """Which photo comes first.

    - uncertain: the one whose first label is the least probable.
    - label: photos of one label after the other, the least certain of each first.
    - disagreement: only photos that an older table labels otherwise, the least certain first.
    - random: an order that has nothing to do with the photos' labels, so that its beginning is a fair sample.
    """

    UNCERTAIN = "uncertain"
    LABEL = "label"
    DISAGREEMENT = "disagreement"
    RANDOM = "random"


@dataclass(frozen=True)
class DeskPhotos:
    """The photos of a table that have a label and a sha256; photo number i is row i of `rows`.

    Of several files with the same bytes the first is here. `old_labels` has for each photo the first label of an older
    table, null where that table does not know these bytes.
    """

    rows: pa.RecordBatch
    old_labels: pa.Array[Any]

    @property
    def count(self) -> int:
        """How many photos there are."""
        return self.rows.num_rows

    @cached_property
    def top_k(self) -> int:
        """How many labels a photo has."""
        return sum(map(is_label_column, self.rows.schema.names))

    def position_of(self, sha256: str) -> int | None:
        """Return the number of the photo with these bytes; None where there is none."""
        found = pc.index(self.rows.column("sha256"), pa.scalar(sha256, pa.string())).as_py()
        return None if found < 0 else int(found)

    def name_at(self, position: int) -> str:
        """Return the file name of a photo."""
        return str(self.rows.column("file_name")[position].as_py())

    def label_at(self, position: int) -> str | None:
        """Return the first label of a photo."""
        value = self.rows.column("label_1")[position].as_py()
        return None if value is None else str(value)

    def ordered(self, order: Order) -> Positions:
        """Return the numbers of the photos in this order."""
        return self._orders[order]

    def has_first_label(self, label: str) -> NDArray[np.bool_]:
        """Tell of each photo whether this is its first label."""
        found = pc.equal(self.rows.column("label_1"), pa.scalar(label, pa.string()))
        return found.fill_null(False).to_numpy(zero_copy_only=False)

    def first_labels(self) -> list[str]:
        """Return the labels that are the first of some photo, in alphabetical order."""
        return sorted(str(label) for label in pc.unique(self.rows.column("label_1").drop_null()).to_pylist())

    def labels(self) -> list[str]:
        """Return all labels that some photo has at some rank, the commonest first."""
        columns = [self.rows.column(f"label_{rank}") for rank in range(1, self.top_k + 1)]
        counts = pc.value_counts(pa.concat_arrays(columns).drop_null())
        labels = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
        return [str(label) for label, _ in sorted(labels, key=lambda entry: (-int(entry[1] or 0), str(entry[0])))]

    @cached_property
    def _orders(self) -> dict[Order, Positions]:
        uncertain = _numbers(pc.sort_indices(self.rows, [("prob_1", "ascending"), ("sha256", "ascending")]))
        by_label = pc.sort_indices(
            self.rows, [("label_1", "ascending"), ("prob_1", "ascending"), ("sha256", "ascending")]
        )
        # The digest of a photo is as random as a die, and is the same after each start and each run.
        by_digest = pc.sort_indices(self.rows, [("sha256", "ascending")])
        disagrees = pc.not_equal(self.old_labels, self.rows.column("label_1")).fill_null(False)
        return {
            Order.UNCERTAIN: uncertain,
            Order.LABEL: _numbers(by_label),
            Order.DISAGREEMENT: uncertain[disagrees.to_numpy(zero_copy_only=False)[uncertain]],
            Order.RANDOM: _numbers(by_digest),
        }


def read_desk_photos(table: Path, since: Path | None) -> DeskPhotos:
    """Return the photos of `table`, compared with those of the older table `since`.

    Raises:
        InputMissingError: there is no such table.
        UsageError: a file is no table of label-dir.
        OutputError: a file is damaged.
    """
    rows = _labelled(read_rows(table))
    if since is None:
        return DeskPhotos(rows, pa.nulls(rows.num_rows, pa.string()))
    older = _labelled(read_rows(since))
    found = pc.index_in(rows.column("sha256"), value_set=older.column("sha256"))
    return DeskPhotos(rows, older.column("label_1").take(found))


def _labelled(table: pa.Table) -> pa.RecordBatch:
    """Return the rows with a label and a digest, the first of each digest."""
    (rows,) = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
    is_error = pc.equal(rows.column("status"), pa.scalar("error"))
    has_digest = pc.match_substring_regex(rows.column("sha256"), SHA256_PATTERN)
    rows = rows.filter(pc.and_(pc.invert(is_error), has_digest))
    numbered = pa.table([rows.column("sha256"), pa.array(np.arange(rows.num_rows))], ["sha256", "number"])
    first = numbered.group_by("sha256").aggregate([("number", "min")]).column("number_min")
    return rows.take(pa.array(np.sort(first.to_numpy())))


def _numbers(indices: pa.Array[Any]) -> Positions:
    return indices.to_numpy().astype(np.int64)
