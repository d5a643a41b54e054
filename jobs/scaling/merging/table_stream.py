"""The tables of a place, as one stream of rows sorted by name; what is damaged or does not belong there is refused.

Parts of ranges follow each other, so a place of parts is one stream. Its parts are read by other threads, some ahead.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.scaling.merging.table_layout import TableLayout
from jobs.scaling.parts import LocalParts, StoredParts, parts_at
from jobs.scaling.range_plan import PLAN_NAME, parsed_plan
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, UsageError
from pipeline.sources.store_url import Place, StoreUrl
from pipeline.tables.arrow import arrow_file, pa, pc, pq
from pipeline.tables.source import TableSource, parsed_source

_ROWS_PER_PIECE = 16_384
# A part of more rows is read in pieces, so that memory does not grow with --part-rows.
_LARGEST_WHOLE_PART_ROWS = 65_536
_PARTS_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Table:
    """A table under the name that messages give it; `file` opens its bytes, which for a part in a store is a GET."""

    told: str
    file: Callable[[], Any]

    def opened(self) -> pq.ParquetFile:
        """Open the table. Raises InputMissingError where it cannot be read or is damaged."""
        with reading(self.told):
            # Not buffered ahead, which for a table read in pieces would hold the whole file in memory.
            return pq.ParquetFile(self.file(), page_checksum_verification=True, pre_buffer=False)

    def whole(self) -> pa.Table | None:
        """Return all rows; None where they are too many to be read at once."""
        with self.opened() as file, reading(self.told):
            return None if file.metadata.num_rows > _LARGEST_WHOLE_PART_ROWS else file.read(use_threads=False)

    def pieces(self) -> Iterator[pa.Table]:
        """Yield the rows, a part of them at a time."""
        with self.opened() as file:
            batches = file.iter_batches(_ROWS_PER_PIECE)
            while True:
                with reading(self.told):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield pa.Table.from_batches([batch])


@dataclass(frozen=True, slots=True)
class Stream:
    """Tables that follow each other: the parts of a place, or one file."""

    told: str
    tables: tuple[Table, ...]

    def first(self) -> tuple[str, pa.Schema, TableSource | None]:
        """Return name, columns and source of the first table."""
        with self.tables[0].opened() as file:
            found = file.schema_arrow
        return self.tables[0].told, found, parsed_source(found.metadata)

    def row_count(self) -> int:
        """Return how many rows the tables have, by what they say of themselves."""
        count = 0
        for table in self.tables:
            with table.opened() as file:
                count += file.metadata.num_rows
        return count

    def batches(self, layout: TableLayout) -> Iterator[pa.Table]:
        """Yield the rows in `layout`, in pieces of at least one row.

        Raises:
            InputMissingError: a table is damaged.
            UsageError: a table has other columns or is of other photos, or the tables do not follow each other.
        """
        last, before = "", self.told
        source: TableSource | None = None
        checked: Table | None = None
        for table, piece in self._pieces():
            if table is not checked:
                layout.refuse_others(piece.schema, table.told)
                source = _same_source(source, parsed_source(piece.schema.metadata), table.told)
                checked = table
            if not piece.num_rows:
                continue
            with reading(table.told):
                rows = layout.rows(piece)
            names = rows.column("file_name")
            if not _is_ascending(names):
                raise UsageError(f"{table.told} is not sorted by name; bring it up to date with label-dir first")
            if not str(names[0].as_py()) > last:
                raise UsageError(
                    f"{table.told} begins before the end of {before}; they are not the parts of one label-dir run"
                )
            last, before = str(names[-1].as_py()), table.told
            yield rows

    def _pieces(self) -> Iterator[tuple[Table, pa.Table]]:
        if len(self.tables) == 1:
            for piece in self.tables[0].pieces():
                yield self.tables[0], piece
            return
        with ThreadPoolExecutor(_PARTS_AHEAD) as threads:
            rest = iter(self.tables)
            waiting: deque[tuple[Table, Future[pa.Table | None]]] = deque()
            waiting.extend((table, threads.submit(table.whole)) for table in islice(rest, _PARTS_AHEAD))
            while waiting:
                table, future = waiting.popleft()
                whole = future.result()
                waiting.extend((following, threads.submit(following.whole)) for following in islice(rest, 1))
                for piece in table.pieces() if whole is None else [whole]:
                    yield table, piece


def stream_at(place: Place) -> Stream:
    """Return the tables at `place`: a file, or all parts of a folder or URL.

    Raises:
        InputMissingError: there is none, or parts are missing.
        UsageError: the file is no Parquet table, or a part is none of the recorded ranges.
    """
    told = terminal_text(str(place))
    if isinstance(place, StoreUrl) or place.is_dir():
        parts = parts_at(place)
        return Stream(told, tuple(_part(parts, name, told) for name in _names(parts, told)))
    if not place.exists():
        raise InputMissingError(f"{told} does not exist")
    if place.suffix.lower() != ".parquet":
        raise UsageError(f"{told}: label-merge reads .parquet tables, and folders and URLs of parts")
    return Stream(told, (_local(place),))


@contextlib.contextmanager
def reading(told: str) -> Iterator[None]:
    """Run a block that reads the table `told`; an error of it becomes an InputMissingError with the reason."""
    try:
        yield
    except (OSError, EOFError, pa.ArrowException, UnicodeDecodeError) as error:
        problem = "cannot be read" if isinstance(error, OSError) and error.errno else "is damaged"
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputMissingError(f"{told} {problem} ({terminal_text(reason.splitlines()[0])})") from error


def _names(parts: LocalParts | StoredParts, told: str) -> Sequence[str]:
    """Return the names of the parts in the order of their ranges."""
    found = parts.names()
    if not found:
        raise InputMissingError(f"{told} holds no parts (*.parquet)")
    plan = parts.small_file(PLAN_NAME)
    if plan is None:
        # Copied from elsewhere, or written by label-merge --files.
        return sorted(found, key=lambda name: (len(name), name))
    expected = [planned.part_name for planned in parsed_plan(plan, f"{told}/{PLAN_NAME}").ranges()]
    if missing := sorted(set(expected) - set(found)):
        raise InputMissingError(
            f"{told} lacks {len(missing)} of {len(expected)} parts, the first of them {missing[0]}; "
            "complete them with label-dir, or name those that are there one by one"
        )
    if others := sorted(set(found) - set(expected)):
        raise UsageError(
            f"{told}: {terminal_text(others[0])} is none of the {len(expected)} parts that {PLAN_NAME} lists; remove it"
        )
    return expected


def _part(parts: LocalParts | StoredParts, name: str, told: str) -> Table:
    if isinstance(parts, LocalParts):
        path = parts.path_of(name)
        return _local(path)
    return Table(f"{told}{terminal_text(name)}", lambda: pa.BufferReader(_content(parts, name)))


def _local(path: Path) -> Table:
    told = terminal_text(str(path))

    def opened() -> Any:
        # Opening a pipe would wait for somebody who writes to it.
        if path.exists() and not path.is_file():
            raise InputMissingError(f"{told} is no file")
        return arrow_file(path)

    return Table(told, opened)


def _content(parts: StoredParts, name: str) -> bytes:
    content = parts.small_file(name)
    if content is None:
        raise InputMissingError(f"{terminal_text(name)} was removed while the parts were merged")
    return content


def _same_source(known: TableSource | None, found: TableSource | None, told: str) -> TableSource | None:
    if known is None or found is None or known.is_same_folder(found):
        return known or found
    raise UsageError(f"{told} is of {terminal_text(found.photos)}, the parts before of {terminal_text(known.photos)}")


def _is_ascending(names: Any) -> bool:
    return bool(pc.all(pc.less(names[:-1], names[1:]), min_count=0).as_py())
