"""Finds the folder of a table's photos, for a report without `--photos`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.sources.file_names import file_system_name
from pipeline.tables.arrow import pa
from pipeline.tables.source import UNREADABLE, TableSource, recorded_source

_SAMPLE = 20


def source_folder(table: Path) -> Path | None:
    """Return the folder that `table` says it is of; None where it says none, or where that folder is not there.

    Raises:
        OutputError: the table, or the file beside it, cannot be read.
    """
    if not table.is_file():
        return None
    try:
        source = recorded_source(table)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{table} cannot be read: {error}") from error
    if source is None or source == UNREADABLE:
        return None
    return next(filter(os.path.isdir, _places_of(table, source)), None)


def find_photos(table: Path, names: Sequence[str]) -> Path | None:
    """Return the folder near `table` in which most of a sample of `names` exist; None without such a folder.

    Candidates are the table's own folder and the folders in it. Files of the same names need not be the same photos.
    """
    sample = names[:: max(1, len(names) // _SAMPLE)][:_SAMPLE]
    if not sample:
        return None
    for folder in _candidates(table.resolve().parent):
        # os.path.isfile is false for a name that no file system takes, where Path.is_file raises.
        if sum(os.path.isfile(folder / file_system_name(name)) for name in sample) * 2 > len(sample):
            return folder
    return None


def _places_of(table: Path, source: TableSource) -> Iterator[Path]:
    yield Path(file_system_name(source.photos))
    # Table and photos have moved together.
    yield table.resolve().parent / file_system_name(source.relative)


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    try:
        yield from sorted(found for found in folder.iterdir() if found.is_dir() and found.name[0] != ".")
    except OSError:
        return
