"""Finds the folder of a table's photos, for a report without `--photos`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.sources.file_names import file_system_name

_SAMPLE = 20


def find_photos(table: Path, names: Sequence[str]) -> Path | None:
    """Return the folder near `table` in which most of a sample of `names` exist; None without such a folder.

    Candidates are the table's own folder and the folders in it.
    """
    sample = names[:: max(1, len(names) // _SAMPLE)][:_SAMPLE]
    if not sample:
        return None
    for folder in _candidates(table.resolve().parent):
        if sum((folder / file_system_name(name)).is_file() for name in sample) * 2 > len(sample):
            return folder
    return None


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    try:
        yield from sorted(found for found in folder.iterdir() if found.is_dir() and found.name[0] != ".")
    except OSError:
        return
