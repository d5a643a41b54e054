"""What commands keep beside tables, datasets and pages may hold anything: used, made anew, or refused in a sentence."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.nightly.job import Job
from jobs.nightly.outputs import refuse_files_of_others
from jobs.report.changes import changes_since_last, memory_path
from jobs.report.find_photos import find_photos, source_folder
from jobs.watching.labels_state import STATUS_NAME
from jobs.watching.watch_status import show_status
from pipeline.datasets.append_dataset import INDEX_NAME, AppendDataset
from pipeline.datasets.partitioned_dataset import days_by_exif, publish
from pipeline.datasets.row_index import entry_of
from pipeline.decoding import capture_date
from pipeline.decoding.capture_date import days_taken
from pipeline.records import FileRef, Row
from pipeline.system.file_lock import held
from pipeline.system.ownership import MARKER_NAME, Owner, claim_folder
from pipeline.tables.part_store import state_folder
from pipeline.tables.reader import read_rows
from pipeline.tables.source import sidecar_of, source_of
from tests.support.bytes_labeller import MODEL, bring_up_to_date, put
from tests.support.watch_kit import digest
from tests.trial.damage import ODD_TEXTS, SCRATCH, damaged, examples, odd_json, refused
from tests.trial.tables import odd_parquet

# As of `watch-folder`, while it runs.
STATUS = {
    "state": "running",
    "health": "ok",
    "mode": "events",
    "model": "x@0",
    "failed": {"empty": 1},
    "pid": os.getpid(),
    "start_ticks": 5,
    "written_at": time.time(),
    "started_at": 5.0,
    "last_success_at": None,
    "labelled": 1,
    "unsure": 0,
    "unchanged": 0,
    "queue_depth": 0,
    "oldest_unlabelled_s": 0.5,
    "rows_not_durable": 0,
    "mean_lag_s": 0.1,
    "rescan_finds": 0,
    "process_restarts": 0,
    "observer_restarts": 0,
}


@contextmanager
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=SCRATCH))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def labelled_folder(suffix: str) -> Iterator[Path]:
    """Two photos and their table."""
    with scratch() as folder:
        for name, content in (("a.jpg", b"one"), ("b.jpg", b"two")):
            put(folder / "photos" / name, content)
        bring_up_to_date(folder / "photos", folder / f"out{suffix}")
        yield folder


@examples(150)
@given(content=odd_json({"photos": "/somewhere/photos", "relative": "photos"}))
def test_the_record_of_a_csv_tables_folder(content: bytes) -> None:
    with labelled_folder(".csv") as folder:
        out = folder / "out.csv"
        before = out.read_bytes()
        sidecar_of(out).write_bytes(content)
        put(folder / "photos" / "c.jpg", b"three")
        refused(lambda: source_folder(out))
        if refused(lambda: bring_up_to_date(folder / "photos", out)):
            assert out.read_bytes() == before
        else:
            assert read_rows(out).num_rows == 3


@examples(150)
@given(content=odd_json({"label_dir": "state of a table", "of": "out.csv"}))
def test_the_marker_of_a_state_folder(content: bytes) -> None:
    with scratch() as folder:
        state = folder / "state"
        claim_folder(state, Owner("state of a table", "out.csv"))
        (state / MARKER_NAME).write_bytes(content)
        (state / "photo.jpg").write_bytes(b"another's")
        refused(lambda: claim_folder(state, Owner("state of a table", "out.csv")))
        assert (state / "photo.jpg").read_bytes() == b"another's"


@examples(60)
@given(content=odd_json({"pid": 1, "host": "h", "since": "s"}))
def test_the_note_in_a_lock(content: bytes) -> None:
    with scratch() as folder:
        lock = folder / "state" / "lock"
        with held(lock, "one"):
            lock.write_bytes(content)
            assert refused(lambda: held(lock, "two").__enter__())


@examples(250)
@given(content=odd_json(STATUS))
def test_the_status_of_a_watch_folder(content: bytes) -> None:
    with scratch() as folder:
        status = state_folder(folder / "labels") / STATUS_NAME
        status.parent.mkdir()
        status.write_bytes(content)
        refused(lambda: show_status(folder / "labels"))


@examples(150)
@given(data=st.data())
def test_the_index_of_watched_labels(data: st.DataObject) -> None:
    def row(name: str, content: bytes) -> Row:
        return Row(name, None, ("x",), (1.0,), 1, 1, len(content), 5, digest(content), "fake@0", 10**15)

    with scratch() as folder:
        labels = folder / "labels"
        labels.mkdir()
        state_folder(labels).mkdir()
        with closing(AppendDataset(labels, "parquet", 1)) as dataset:
            for number in range(3):
                known = row(f"{number}.jpg", bytes([number]))
                dataset.add(known, entry_of(known))
            dataset.commit()
        index = state_folder(labels) / INDEX_NAME
        if data.draw(st.booleans()):
            index.write_bytes(data.draw(damaged(index.read_bytes())))
        else:
            with closing(sqlite3.connect(index)) as database, database:
                column = data.draw(st.sampled_from(["name", "identity", "size_bytes", "mtime_us", "ctime_ns", "inode"]))
                value = data.draw(st.sampled_from([b"", b"\xff" * 17, "text", 1.5, 2**63 - 1, 10**400 % 7, -1]))
                database.execute(f"UPDATE OR REPLACE photo SET {column} = ?", (value,))
        refs = [FileRef(f"{number}.jpg", "", 1, 5) for number in range(3)]

        def use() -> None:
            with closing(AppendDataset(labels, "parquet", 1)) as dataset:
                for entry in dataset.find(refs).values():
                    dataset.is_durable(entry)
                for number in range(4):
                    known = row(f"{number}.jpg", bytes([number]))
                    dataset.add(known, entry_of(known))
                dataset.commit()

        refused(use, OSError)
        rows = read_rows(labels)
        assert {digest(bytes([number])) for number in range(3)} <= set(rows.column("sha256").to_pylist())


@examples(100)
@given(data=st.data())
def test_a_part_of_watched_labels(data: st.DataObject) -> None:
    row = Row("a.jpg", None, ("x", "y"), (0.5, 0.5), 1, 1, 3, 5, digest(b"one"), MODEL.model_id, 10**15)
    with scratch() as folder:
        labels = folder / "labels"
        labels.mkdir()
        state_folder(labels).mkdir()
        with closing(AppendDataset(labels, "parquet", 2)) as dataset:
            dataset.add(row, entry_of(row))
            dataset.commit()
        (part,) = labels.glob("date=*/part-*")
        is_odd = data.draw(st.booleans())
        content = data.draw(odd_parquet(pq.read_table(part)) if is_odd else damaged(part.read_bytes()))
        part.write_bytes(content)

        def use() -> None:
            with closing(AppendDataset(labels, "parquet", 2)) as dataset:
                dataset.add(row, entry_of(row))
                dataset.commit()

        refused(use, OSError)
        # Grown, set aside, or as it was: what another program wrote is never gone.
        assert part.exists() or (part.with_name(f".{part.name}.damaged")).read_bytes() == content


@examples(120)
@given(data=st.data())
def test_the_parts_of_an_interrupted_run(data: st.DataObject) -> None:
    with labelled_folder(".parquet") as folder:
        out = folder / "out.parquet"
        state = state_folder(out)
        table = pq.read_table(out)
        content = data.draw(st.one_of(odd_parquet(table), damaged(out.read_bytes())))
        state.mkdir(exist_ok=True)
        sha256 = digest(content)[:16] if data.draw(st.booleans()) else "0" * 16
        (state / f"part-00000001-{sha256}.parquet").write_bytes(content)
        (folder / "photos" / "c.jpg").write_bytes(b"three")
        if not refused(lambda: bring_up_to_date(folder / "photos", out)):
            rows = read_rows(out)
            assert rows.column("file_name").to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]


@examples(120)
@given(data=st.data())
def test_the_rows_of_the_last_page(data: st.DataObject) -> None:
    with scratch() as folder:
        memory = memory_path(folder / "page.html")
        rows = pa.table({"file_name": ["a", "b"], "status": ["ok", "error"], "label_1": ["x", None]})
        changes_since_last(rows, memory)
        changes_since_last(rows.slice(0, 1), memory)
        kept = pq.read_table(memory)
        (key,) = [key for key in kept.schema.metadata if key != b"ARROW:schema"]
        kind = data.draw(st.integers(0, 2))
        if kind == 0:
            memory.write_bytes(data.draw(damaged(memory.read_bytes())))
        elif kind == 1:
            memory.write_bytes(data.draw(odd_parquet(kept)))
        else:
            note = data.draw(odd_json(json.loads(kept.schema.metadata[key])))
            pq.write_table(kept.replace_schema_metadata({key: note}), memory)
        for now in (rows, rows.slice(1, 1), rows.slice(0, 1)):
            changes = changes_since_last(now, memory)
            if changes is not None:
                # What the page shows of them.
                json.dumps(asdict(changes)).encode()
                time.strftime("%Y", time.gmtime(changes.since_s))
                assert all(isinstance(name, str) for name in (*changes.added, *changes.gone, *changes.newly_failed))
                assert all(len(names) == 3 for names in changes.relabelled)


@examples(100)
@given(data=st.data())
def test_the_days_on_which_photos_were_taken(data: st.DataObject) -> None:
    with labelled_folder(".parquet") as folder:
        rows = read_rows(folder / "out.parquet")
        sha256s = [str(sha256) for sha256 in rows.column("sha256").to_pylist()]
        cells = [
            data.draw(st.sampled_from(["2020-01-01", "../../abcd", "2020-02-31", "", None, "x/y"])) for _ in sha256s
        ]
        cache, dataset = folder / "taken.parquet", folder / "dataset"
        dataset.mkdir()
        pq.write_table(pa.table({"sha256": sha256s, "day": pa.array(cells, pa.string())}), cache)
        if data.draw(st.booleans()):
            cache.write_bytes(data.draw(st.one_of(odd_parquet(pq.read_table(cache)), damaged(cache.read_bytes()))))
        paths = {sha256: str(folder / "nowhere") for sha256 in sha256s}
        with pytest.MonkeyPatch.context() as patch:
            # Workers, of which each example would start some, find no photo either.
            patch.setattr(capture_date, "process_map", lambda _, new, *others: ((photo, None) for photo in new))
            days = days_by_exif(rows, days_taken(paths, cache, 1))
        publish(rows, days, dataset, None, source_of(folder / "photos", folder / "out.parquet"))
        assert all(path.parent.parent == dataset for path in folder.rglob("labels.parquet"))
        assert read_rows(dataset).num_rows == 2


@examples(150)
@given(content=odd_json({"job": "/somewhere/nightly.toml", "began_at": "x", "tasks": []}))
def test_the_summary_of_a_job(content: bytes) -> None:
    with scratch() as folder:
        summary = folder / "nightly.summary.json"
        summary.write_bytes(content)
        job = Job.model_construct(summary=summary, metrics=None, task=())
        refused(lambda: refuse_files_of_others(folder / "nightly.toml", job))


@examples(60)
@given(names=st.lists(ODD_TEXTS, min_size=1, max_size=3))
def test_the_names_of_photos_in_a_table(names: list[str]) -> None:
    with scratch() as folder:
        find_photos(folder / "out.parquet", [name.encode("utf-8", "replace").decode() for name in names])
