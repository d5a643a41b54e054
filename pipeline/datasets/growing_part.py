"""One part that grows while others read it: written whole and renamed over itself, in row groups that stay put.

Readers often open a file twice, for its footer and for its data, and may find a later version the second time. The
data that an older footer points to is still there: row groups of the same rows are the same bytes at the same place,
and new rows form a row group of their own behind them. Small row groups are merged only when there are many.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from pipeline.errors import LabelDirError, UsageError
from pipeline.tables.arrow import pa, pq
from pipeline.tables.reader import rows_as_stored, table_format
from pipeline.tables.schema import schema
from pipeline.tables.writer import write_batches

ROWS_PER_GROUP = 8192
_SMALL_GROUPS = 64
_UNIQUE = ("file_name", "sha256")


class GrowingPart:
    """A part and the rows in its file; `rows` are those already published at `path`."""

    def __init__(self, path: Path, top_k: int, rows: pa.Table | None = None) -> None:
        self.path = path
        self._schema = schema(top_k)
        # A dictionary of values that never repeat costs, for each group, ten times the memory of the group.
        self._repeating = [name for name in self._schema.names if name not in _UNIQUE]
        self._groups = [] if rows is None else self._merged(rows.to_batches())

    @property
    def rows(self) -> int:
        """How many rows are published."""
        return sum(group.num_rows for group in self._groups)

    def append(self, batch: pa.RecordBatch) -> None:
        """Publish the part with the rows of `batch` added.

        Raises:
            OSError: the part cannot be written; the last version stays.
        """
        grown = [*self._groups, batch]
        full = next((at for at, group in enumerate(grown) if group.num_rows < ROWS_PER_GROUP), len(grown))
        small = grown[full:]
        if len(small) > _SMALL_GROUPS or sum(group.num_rows for group in small) >= ROWS_PER_GROUP:
            grown[full:] = self._merged(small)
        write_batches(grown, self.path, self._schema, ROWS_PER_GROUP, use_dictionary=self._repeating)
        self._groups = grown

    def _merged(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Return the rows of `batches` in groups of 8,192 rows; the last group may have fewer."""
        plain = self._schema.remove_metadata()
        rows = pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches], plain)
        merged: list[pa.RecordBatch] = []
        for begin in range(0, rows.num_rows, ROWS_PER_GROUP):
            group = rows.slice(begin, ROWS_PER_GROUP).combine_chunks()
            merged += group.replace_schema_metadata(self._schema.metadata).to_batches()
        return merged


def rows_of_part(path: Path) -> pa.Table | None:
    """Return the rows of a part; None where the part is damaged.

    Raises:
        UsageError: the part is whole, and not ours.
        OSError: the part cannot be read now, which says nothing of what it holds.
    """
    try:
        return rows_as_stored(path)
    except LabelDirError as error:
        try:
            with path.open("rb") as stream:
                content = stream.read()
        except OSError as failure:
            raise _unreadable(path, failure) from failure
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            # The first attempt failed for a reason of the file system, which says nothing about the part's content.
            raise _unreadable(path, error.__cause__) from error
        if isinstance(error, UsageError) and _is_whole(path, content):
            raise
        return None


def is_as_written(path: Path) -> bool:
    """Tell whether label-dir saved the part; False also where the part is damaged.

    Raises:
        OSError: the part cannot be read now.
    """
    if rows_of_part(path) is None:
        return False
    found = table_format(path)
    return found is not None and found.is_ours and not found.extra


def _unreadable(path: Path, error: OSError) -> OSError:
    return OSError(error.errno, f"{path.parent.name}/{path.name} cannot be read ({error.strerror or error})")


def _is_whole(path: Path, content: bytes) -> bool:
    """Tell whether a file that is no table of ours is one of another program, and not the rest of a table."""
    if path.suffix == ".parquet":
        with contextlib.suppress(pa.ArrowException, OSError):
            return pq.read_schema(pa.BufferReader(content)) is not None
        return False
    header = content.partition(b"\n")[0].replace(b'"', b"")
    return bool(header) and not b"file_name,status,error,".startswith(header[:23])
