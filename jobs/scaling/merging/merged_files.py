"""A stream of rows -> files of about equal size in a folder that appears as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from jobs.scaling.range_plan import part_name
from models.system.atomic_file import sync_folder
from models.system.outside_text import terminal_text
from pipeline.errors import UsageError
from pipeline.sources.file_names import display_name
from pipeline.system.file_lock import StateFolder, held_state
from pipeline.system.ownership import Owner
from pipeline.tables.arrow import pa
from pipeline.tables.part_store import state_folder

_NEW_FOLDER = "files"


def write_files(
    pieces: Iterator[pa.Table], out: Path, row_count: int, files: int, write: Callable[[Iterator[pa.Table], Path], int]
) -> list[int]:
    """Write `pieces`, of some `row_count` rows, as so many files by `write`; return the rows that it wrote of each.

    They are written beside `out`, which must not exist or be empty, and take its place in one step. What a killed merge
    left there is removed first.

    Raises:
        UsageError: `out` is not empty.
        LockedError: another merge writes `out`.
        OSError: the files cannot be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    state = StateFolder(
        state_folder(out), Owner("files of a merge", display_name(out.name)), lambda name: name == _NEW_FOLDER
    )
    with held_state(state, terminal_text(str(out))) as folder:
        new = folder / _NEW_FOLDER
        _remove(new)
        refuse_full(out)
        try:
            new.mkdir()
            counts = [
                write(share, new / part_name(number)) for number, share in enumerate(_shares(pieces, row_count, files))
            ]
            sync_folder(new)
            if out.exists():
                shutil.copymode(out, new)
            os.rename(new, out)
        finally:
            _remove(new)
        sync_folder(out.parent)
    return counts


def refuse_full(out: Path) -> None:
    """Check that folder `out` is empty or missing: files of an earlier merge beside new ones would be rows twice.

    Raises:
        UsageError: it is not.
        OSError: it is no folder, or cannot be read.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.listdir(out):
            raise UsageError(f"{terminal_text(str(out))} is not empty; name a new folder")


def _remove(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _shares(pieces: Iterator[pa.Table], row_count: int, files: int) -> Iterator[Iterator[pa.Table]]:
    """Yield the pieces in at most `files` shares; each share has to be used before the next."""
    rest: list[pa.Table] = []

    def share(missing: int | None) -> Iterator[pa.Table]:
        for piece in chain([rest.pop()] if rest else [], pieces):
            if missing is None or piece.num_rows < missing:
                missing = None if missing is None else missing - piece.num_rows
                yield piece
                continue
            if piece.num_rows > missing:
                rest.append(piece[missing:])
            yield piece[:missing]
            return

    for number in range(files):
        if not rest:
            piece = next(pieces, None)
            if piece is None:
                return
            rest.append(piece)
        # The last share takes also rows that appeared after the rows were counted.
        rows = row_count * (number + 1) // files - row_count * number // files
        yield share(None if number == files - 1 else max(1, rows))
