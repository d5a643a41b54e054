"""The table's schema, and rows as Arrow batches; a constant for each number of labels, never inferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.records import Row
from pipeline.tables.arrow import pa
from pipeline.tables.cells import cells_of

FORMAT_KEY = b"label_dir"
FORMAT_VERSION = b"1"
# Of a table with the column `etag`, which earlier versions take for a column of another program.
REMOTE_FORMAT_VERSION = b"2"
_TIME = pa.timestamp("us", tz="UTC")
# What tells the contents of an object apart; only in a table of photos of an object store.
ETAG: pa.Field[Any] = pa.field("etag", pa.string())
# What a person said of the photo.
REVIEWED_LABEL: pa.Field[Any] = pa.field("reviewed_label", pa.string())
# Columns that a table has behind the others where there is something to say there.
OPTIONAL_FIELDS = (ETAG, REVIEWED_LABEL)


def schema(top_k: int, extra: Sequence[pa.Field[Any]] = ()) -> pa.Schema:
    """Return the schema of a table with `top_k` label and probability pairs, and `extra` columns of other programs."""
    pairs = [
        field
        for rank in range(1, top_k + 1)
        for field in (pa.field(f"label_{rank}", pa.string()), pa.field(f"prob_{rank}", pa.float32()))
    ]
    fields = [
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        *pairs,
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("mtime", _TIME, nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("labelled_at", _TIME, nullable=False),
    ]
    version = REMOTE_FORMAT_VERSION if ETAG in extra else FORMAT_VERSION
    return pa.schema([*fields, *extra], metadata={FORMAT_KEY: version})


def to_batch(rows: Sequence[Row], top_k: int, has_etag: bool = False) -> pa.RecordBatch:
    """Return `rows`, at least one, sorted by file name as one Arrow batch; with the column `etag` if it `has_etag`."""
    table_schema = schema(top_k, [ETAG] if has_etag else [])
    in_order = sorted(rows, key=lambda row: row.file_name)
    cells = [(*cells_of(row, top_k), row.etag) if has_etag else cells_of(row, top_k) for row in in_order]
    arrays = [
        pa.array(column, type=field.type) for column, field in zip(zip(*cells, strict=True), table_schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=table_schema)
