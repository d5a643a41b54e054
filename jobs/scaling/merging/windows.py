"""Several streams of rows, each sorted by name -> one, in windows of whole columns and never row by row.

A window is the rows of all streams up to the name that each of them has been read to, sorted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.tables.arrow import pa, pc


def merged(streams: Iterable[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Yield the rows of all streams in order; of rows with one name, that of the stream named last.

    The pieces of the streams have the same columns, and at least one row.
    """
    buffers = [_Buffer(stream) for stream in streams]
    while buffers := [buffer for buffer in buffers if buffer.fill()]:
        # No stream has a further row up to this name.
        name = min(buffer.last for buffer in buffers)
        pieces = [piece for buffer in buffers if (piece := buffer.up_to(name)) is not None]
        yield pieces[0] if len(pieces) == 1 else _newest_in_order(pieces)


class _Buffer:
    """What has been read of a stream and is not used yet, and its last name."""

    def __init__(self, stream: Iterator[pa.Table]) -> None:
        self._stream = stream
        self._rows: pa.Table | None = None
        self.last = ""

    def fill(self) -> bool:
        """Read on where nothing is left; False at the end of the stream."""
        if self._rows is None:
            self._rows = next(self._stream, None)
            if self._rows is None:
                return False
            self.last = str(self._rows.column("file_name")[-1].as_py())
        return True

    def up_to(self, name: str) -> pa.Table | None:
        """Take the rows up to and with `name`; None where there are none."""
        assert self._rows is not None
        rows = self._rows
        count = rows.num_rows
        if self.last != name:
            count = int(pc.less_equal(rows.column("file_name"), pa.scalar(name)).to_numpy().sum())
        self._rows = rows[count:] if count < rows.num_rows else None
        return rows[:count] if count else None


def _newest_in_order(pieces: list[pa.Table]) -> pa.Table:
    window = pa.concat_tables(pieces).combine_chunks()
    names = pa.concat_arrays(window.column("file_name").chunks)
    generations = np.repeat(np.arange(len(pieces), dtype=np.int32), [piece.num_rows for piece in pieces])
    # A table of its own: a column of any name may be among those of the rows.
    keys = pa.table([names, pa.array(generations)], names=["name", "generation"])
    order = pc.sort_indices(keys, [("name", "ascending"), ("generation", "descending")])
    in_order = names.take(order)
    is_newest = pa.concat_arrays([pa.array([True]), pc.not_equal(in_order[1:], in_order[:-1])])
    return window.take(order.filter(is_newest))
