"""For a name of any bytes the file has one row, in the order of the table, and the next run finds that row."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.records import Row
from pipeline.sources.file_names import file_system_name
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.tables.incremental import IncrementalUpdate
from pipeline.tables.merge import merge, names_of
from pipeline.tables.part_store import PartStore
from pipeline.tables.reader import previous_table
from pipeline.tables.writer import export

MODEL = "m@000000000000"
BYTES = st.binary(min_size=1, max_size=30) | st.text(st.sampled_from("=+-@\\x5ce9é\"',;\r\n\t. /"), min_size=1).map(
    str.encode
)
NAMES = BYTES.map(lambda raw: raw.replace(b"/", b"").replace(b"\0", b"").lstrip(b".")[:120]).filter(bool)
PATHS = st.lists(st.tuples(NAMES, st.none() | NAMES), min_size=1, max_size=12)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(paths=PATHS)
def test_each_file_has_one_row_and_the_next_run_finds_it(paths: list[tuple[bytes, bytes | None]], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        photos = Path(home) / "photos"
        written = _write(photos, paths)
        refs = list(walk(photos, WalkRules(), WalkCounts()))
        assert sorted(os.fsencode(photos / file_system_name(ref.name)) for ref in refs) == sorted(written)
        assert [ref.name for ref in refs] == sorted({ref.name for ref in refs})

        store = PartStore(Path(home), 1)
        for ref in reversed(refs):
            store.add(Row(ref.name, None, ("cat",), (0.5,), 1, 1, ref.size_bytes, ref.mtime_us, "ab", MODEL, 0))
        store.commit()
        out = Path(home) / f"out{suffix}"
        export((piece.rows for piece in merge(store.committed())), out, 1)
        previous = previous_table(out, 1)
        assert previous is not None
        assert [name for batch in previous.batches() for name in names_of(batch)] == [ref.name for ref in refs]
        assert list(IncrementalUpdate([previous], MODEL).pending(iter(refs))) == []


def _write(photos: Path, paths: list[tuple[bytes, bytes | None]]) -> list[bytes]:
    """Write a file for each path (a name, or a folder and a name in it); return the paths of the files written."""
    written: set[bytes] = set()
    photos.mkdir()
    for first, second in paths:
        folder = os.fsencode(photos) if second is None else os.path.join(os.fsencode(photos), first)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, (first if second is None else second) + b".png")
        if not os.path.isdir(path):
            Path(os.fsdecode(path)).write_bytes(b"photo")
            written.add(path)
    return sorted(written)
