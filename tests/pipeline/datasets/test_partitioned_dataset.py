"""A partition is written again where any of its rows has changed, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.datasets.partitioned_dataset import publish
from pipeline.records import Row
from pipeline.tables.schema import to_batch
from pipeline.tables.source import TableSource

DAYS = np.array(["2024-03-04"])
SOURCE = TableSource("/photos", "photos")
OTHERS = {"file_name": "b.jpg", "label_1": "cat", "model": "other@0", "sha256": "1" * 64, "size_bytes": 8, "width": 2}


def test_a_change_of_any_column_but_the_time_of_labelling_writes_the_partition(tmp_path: Path) -> None:
    # Case 6: the digest of a partition left columns out, so that photos that swapped names kept each other's rows.
    row = Row("a.jpg", None, ("dog",), (0.5,), 1, 1, 9, 0, "0" * 64, "model@0", 5)
    rows = pa.Table.from_batches([to_batch([row], 1)])
    assert publish(rows, DAYS, tmp_path, None, SOURCE).written == 1
    for column, value in OTHERS.items():
        place = rows.schema.get_field_index(column)
        rows = rows.set_column(place, rows.schema.field(column), pa.array([value], rows.schema.field(column).type))
        assert publish(rows, DAYS, tmp_path, None, SOURCE).written == 1, column
    place = rows.schema.get_field_index("labelled_at")
    later = rows.set_column(place, rows.schema.field(place), pa.array([10**15], rows.schema.field(place).type))
    published = publish(later, DAYS, tmp_path, None, SOURCE)
    assert (published.written, published.unchanged) == (0, 1)
