"""What label-merge does: places of parts and tables -> one sorted table, or a given number of files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.scaling.merging.merged_files import refuse_full, write_files
from jobs.scaling.merging.table_layout import TableLayout, common_layout
from jobs.scaling.merging.table_stream import stream_at
from jobs.scaling.merging.windows import merged
from jobs.scaling.range_plan import PLAN_NAME
from models.system.outside_text import terminal_text
from pipeline.errors import AnotherFolderError, PhotosGoneError, UsageError, output_errors
from pipeline.gone_guard import DEFAULT_GONE_LIMIT
from pipeline.sources.file_names import file_system_name
from pipeline.sources.store_url import Place, StoreUrl, parsed_place
from pipeline.system.file_lock import held_state
from pipeline.tables.arrow import pa, pc
from pipeline.tables.part_store import state_of
from pipeline.tables.reader import rows_in
from pipeline.tables.source import UNREADABLE, TableSource, recorded_source, source_of
from pipeline.tables.writer import export


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge wrote; `models` are the ids in its rows, sorted."""

    rows: int
    files: int
    models: tuple[str, ...] = ()


class _Models:
    """The ids of the models in the rows that pass."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def noted(self, pieces: Iterator[pa.Table]) -> Iterator[pa.Table]:
        for piece in pieces:
            self.found.update(map(str, pc.unique(piece.column("model")).to_pylist()))
            yield piece


def merge_tables(places: Sequence[Place], out: Path, files: int | None = None, fresh: bool = False) -> Merged:
    """Write the rows of all tables at `places` to `out`; of rows with one name, that of the place named last.

    With `files`, `out` is a folder that gets so many tables of about equal size, in order. A table `out` of other
    photos, or of which most rows would go, is replaced only if `fresh`.

    Raises:
        InputMissingError: there is no table, parts are missing, or a table cannot be read.
        UsageError: a file is no table of label-dir, or does not belong to the others; `out` is among the parts.
        AnotherFolderError, PhotosGoneError: `out` is to be replaced only if `fresh`.
        LockedError: another process writes `out`.
        OutputError: `out` cannot be written.
    """
    _refuse_out_among_parts(places, out)
    streams = [stream_at(place) for place in places]
    found = [stream.first() for stream in streams]
    layout = common_layout((told, table) for told, table, _ in found)
    models = _Models()
    pieces = models.noted(merged(stream.batches(layout) for stream in streams))
    sources = {source for _, _, source in found}
    if files is None:
        source = _source_of_all(sources, out)
        counts = [_replaced(pieces, out, layout, source, fresh)]
    else:
        out = out.resolve()
        source = _source_of_all(sources, out / "part.parquet")
        with output_errors(out):
            refuse_full(out)
            rows = sum(stream.row_count() for stream in streams)
            counts = write_files(pieces, out, rows, files, lambda share, path: _exported(share, path, layout, source))
    return Merged(sum(counts), len(counts), tuple(sorted(models.found)))


def _refuse_out_among_parts(places: Sequence[Place], out: Path) -> None:
    """Check that `out` does not become one of the parts that it is made of, nor takes the place of one: where OUT is
    forgotten, the last part that is named stands for it. Raises UsageError."""
    folders = {place.resolve() for place in places if not isinstance(place, StoreUrl) and place.is_dir()}
    whole = out.resolve()
    if folders & {whole, whole.parent} or (whole.parent / PLAN_NAME).exists():
        raise UsageError(f"{terminal_text(str(out))} would lie among the parts; name a place outside of them")


def refuse_url(out: Path) -> None:
    """Check that `out` is a path of this machine, which a merge writes. Raises UsageError."""
    text = str(out)
    # A path has lost one of the slashes.
    if isinstance(parsed_place(text.replace(":/", "://", 1)), StoreUrl):
        raise UsageError("label-merge writes to this machine; name a path, and copy the table afterwards")


def _source_of_all(sources: set[TableSource | None], out: Path) -> TableSource | None:
    """Return what the table `out` records: the photos of all tables, None where they differ or are not known."""
    if len({source and source.photos for source in sources}) != 1:
        return None
    source = sources.pop()
    if source is None or source == UNREADABLE or source.photos == source.relative:
        return source
    # The way from a part to the photos is not that from `out`.
    return source_of(Path(file_system_name(source.photos)), out)


def _replaced(
    pieces: Iterator[pa.Table], out: Path, layout: TableLayout, source: TableSource | None, fresh: bool
) -> int:
    with output_errors(out), held_state(state_of(out), terminal_text(str(out))):
        before = 0
        if not fresh:
            recorded = recorded_source(out)
            if recorded is not None and (source is None or not recorded.is_same_folder(source)):
                raise AnotherFolderError(
                    f"{terminal_text(str(out))} holds the labels of {terminal_text(recorded.photos)}, and not those of "
                    "the tables that were named",
                    "choose another name, or replace the table with --fresh",
                )
            before = rows_in(out)
        return _exported(pieces, out, layout, source, before)


def _exported(
    pieces: Iterator[pa.Table], out: Path, layout: TableLayout, source: TableSource | None, before: int = 0
) -> int:
    rows = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for piece in pieces:
            rows += piece.num_rows
            yield from piece.to_batches()
        # Raised before the writer puts the new table in the place of the old one.
        if not DEFAULT_GONE_LIMIT.allows(max(0, before - rows), before):
            raise PhotosGoneError(
                f"{terminal_text(str(out))} has {before} rows, and the tables that were named only {rows}",
                "choose another name, or replace the table with --fresh",
            )

    export(batches(), out, layout.top_k, source, layout.extra)
    return rows
