"""Places of parts and tables -> one sorted table, or a given number of files; in whole columns, never row by row.

The parts of ranges follow each other, so a place of parts is one stream of rows already. Several streams are merged in
windows: of each stream the rows up to the name that all of them have been read to, sorted together.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from jobs.scaling.parts import LocalParts, StoredParts, parts_at
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, UsageError, output_errors
from pipeline.sources.store_url import Place, StoreUrl
from pipeline.tables.arrow import pa, pc, pq
from pipeline.tables.foreign_format import is_label_column
from pipeline.tables.schema import FORMAT_KEY, schema
from pipeline.tables.source import TableSource, parsed_source
from pipeline.tables.writer import export

_ROWS_PER_WINDOW = 16_384
# Parts are read by other threads while those before are written.
_PARTS_AHEAD = 4
_GENERATION = "generation of the table"

# A function that reads a table of a stream; of a part in a store, that is a GET.
_Read = Callable[[], pq.ParquetFile]


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge wrote."""

    rows: int
    files: int


@dataclass(frozen=True, slots=True)
class _Stream:
    """Tables that follow each other: the parts of a place, or one file."""

    told: str
    tables: tuple[_Read, ...]

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in pieces of at least one row. Raises UsageError where the tables do not follow each other."""
        last = ""
        for piece in self._pieces():
            names = piece.column("file_name")
            if not str(names[0].as_py()) > last:
                raise UsageError(f"{self.told}: its parts overlap; they are not those of one label-dir run")
            last = str(names[-1].as_py())
            yield piece

    def _pieces(self) -> Iterator[pa.Table]:
        if len(self.tables) == 1:
            with self.tables[0]() as file:
                yield from map(_table_of, file.iter_batches(_ROWS_PER_WINDOW))
            return
        with ThreadPoolExecutor(_PARTS_AHEAD) as threads:
            waiting: deque[Future[pa.Table]] = deque()
            rest = iter(self.tables)
            for read in islice(rest, _PARTS_AHEAD):
                waiting.append(threads.submit(_whole, read))
            while waiting:
                piece = waiting.popleft().result()
                waiting.extend(threads.submit(_whole, read) for read in islice(rest, 1))
                if piece.num_rows:
                    yield piece


class _Buffer:
    """What a merge has read of a stream and not used yet; `generation` is higher for a later-named stream."""

    def __init__(self, stream: Iterator[pa.Table], generation: int) -> None:
        self._stream = stream
        self._generation = generation
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
        """Take the rows up to and with `name`, with their generation; None where there are none."""
        assert self._rows is not None
        rows = self._rows
        count = rows.num_rows
        if self.last != name:
            count = int(pc.less_equal(rows.column("file_name"), pa.scalar(name)).to_numpy().sum())
        self._rows = rows[count:] if count < rows.num_rows else None
        if not count:
            return None
        generation = pa.array(np.full(count, self._generation, np.int32))
        return rows[:count].append_column(_GENERATION, generation)


def merge_tables(places: Sequence[Place], out: Path, files: int | None = None) -> Merged:
    """Write the rows of all tables at `places` to `out`; of rows with one name, that of the place named last.

    With `files`, `out` is a folder that gets so many tables of about equal size, in order.

    Raises:
        InputMissingError: there is no table, or one cannot be read.
        UsageError: a file is no table of label-dir, or they differ in their columns.
        OutputError: `out` cannot be written.
    """
    streams = [_stream_at(place) for place in places]
    try:
        top_k, extra, source = _common(streams)
        merged = _merged(streams, schema(top_k, extra))
        if files is None:
            with output_errors(out):
                return Merged(_exported(merged, out, top_k, source, extra), 1)
        per_file = max(1, math.ceil(sum(map(_row_count, streams)) / files))
        with output_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                # Files that an earlier merge left beside fewer new ones would be rows twice.
                raise UsageError(f"{terminal_text(str(out))} is not empty; name a new folder")
            counts = [
                _exported(share, out / f"part-{number:05d}.parquet", top_k, source, extra)
                for number, share in enumerate(_shares(merged, per_file))
            ]
        return Merged(sum(counts), len(counts))
    except (pa.ArrowException, EOFError) as error:
        raise InputMissingError(f"a table is damaged: {terminal_text(str(error).splitlines()[0])}") from error


def _stream_at(place: Place) -> _Stream:
    told = terminal_text(str(place))
    if isinstance(place, StoreUrl) or place.is_dir():
        parts = parts_at(place)
        names = parts.names()
        if not names:
            raise InputMissingError(f"{told} holds no parts (*.parquet)")
        return _Stream(told, tuple(_reader(parts, name) for name in names))
    if not place.exists():
        raise InputMissingError(f"{told} does not exist")
    if place.suffix.lower() != ".parquet":
        raise UsageError(f"{told}: label-merge reads .parquet tables, and folders and URLs of parts")
    return _Stream(told, (lambda: _opened(place, told),))


def _reader(parts: LocalParts | StoredParts, name: str) -> _Read:
    if isinstance(parts, LocalParts):
        path = parts.path_of(name)
        return lambda: _opened(path, terminal_text(str(path)))
    return lambda: _opened(pa.BufferReader(_content(parts, name)), terminal_text(name))


def _content(parts: StoredParts, name: str) -> bytes:
    content = parts.small_file(name)
    if content is None:
        raise InputMissingError(f"{terminal_text(name)} was removed while the parts were merged")
    return content


def _opened(file: Any, told: str) -> pq.ParquetFile:
    try:
        opened = pq.ParquetFile(file, page_checksum_verification=True)
    except OSError as error:
        raise InputMissingError(f"{told} cannot be read: {error.strerror or error}") from error
    if FORMAT_KEY not in (opened.schema_arrow.metadata or {}):
        raise UsageError(f"{told} is not a table of label-dir")
    return opened


def _common(streams: Sequence[_Stream]) -> tuple[int, list[pa.Field[Any]], TableSource | None]:
    """Return the number of labels, the extra columns and the source of the first table of each stream."""
    extra: dict[str, pa.Field[Any]] = {}
    top_ks: set[int] = set()
    sources: set[TableSource | None] = set()
    for stream in streams:
        with stream.tables[0]() as file:
            found = file.schema_arrow
        top_k = sum(map(is_label_column, found.names))
        top_ks.add(top_k)
        sources.add(parsed_source(found.metadata))
        ours = schema(top_k).names
        extra |= {field.name: field for field in found if field.name not in ours}
    if len(top_ks) > 1:
        raise UsageError(f"the tables differ in their number of labels: {', '.join(map(str, sorted(top_ks)))}")
    return top_ks.pop(), list(extra.values()), sources.pop() if len(sources) == 1 else None


def _merged(streams: Sequence[_Stream], table_schema: pa.Schema) -> Iterator[pa.Table]:
    if len(streams) == 1:
        pieces = streams[0].batches()
    else:
        pieces = _windows([_Buffer(stream.batches(), number) for number, stream in enumerate(streams)])
    for piece in pieces:
        if unknown := set(piece.schema.names) - set(table_schema.names):
            raise UsageError(f"the tables differ in their columns: {terminal_text(', '.join(sorted(unknown)))}")
        yield piece


def _windows(buffers: list[_Buffer]) -> Iterator[pa.Table]:
    while buffers := [buffer for buffer in buffers if buffer.fill()]:
        # No stream has a further row up to this name.
        name = min(buffer.last for buffer in buffers)
        pieces = [piece for buffer in buffers if (piece := buffer.up_to(name)) is not None]
        window = pieces[0]
        if len(pieces) > 1:
            window = pa.concat_tables(pieces, promote_options="default").combine_chunks()
            order = pc.sort_indices(window, [("file_name", "ascending"), (_GENERATION, "descending")])
            window = window.take(order)
            names = window.column("file_name").combine_chunks()
            is_newest = pc.not_equal(names[1:], names[:-1])
            window = window.filter(pa.chunked_array([pa.array([True]), is_newest]))
        yield window.drop_columns(_GENERATION)


def _shares(pieces: Iterator[pa.Table], rows: int) -> Iterator[Iterator[pa.Table]]:
    """Yield the pieces in shares of `rows` rows; each share has to be used before the next."""
    rest: list[pa.Table] = []

    def share() -> Iterator[pa.Table]:
        missing = rows
        for piece in chain([rest.pop()] if rest else [], pieces):
            yield piece[:missing]
            if piece.num_rows >= missing:
                if piece.num_rows > missing:
                    rest.append(piece[missing:])
                return
            missing -= piece.num_rows

    while True:
        if not rest:
            piece = next(pieces, None)
            if piece is None:
                return
            rest.append(piece)
        yield share()


def _exported(
    pieces: Iterator[pa.Table], out: Path, top_k: int, source: TableSource | None, extra: Sequence[pa.Field[Any]]
) -> int:
    rows = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for piece in pieces:
            rows += piece.num_rows
            yield from piece.to_batches()

    export(batches(), out, top_k, source, extra)
    return rows


def _row_count(stream: _Stream) -> int:
    count = 0
    for read in stream.tables:
        with read() as file:
            count += file.metadata.num_rows
    return count


def _whole(read: _Read) -> pa.Table:
    with read() as file:
        return file.read(use_threads=False)


def _table_of(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])
