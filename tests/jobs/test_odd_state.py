"""Finds of fuzzing what commands keep beside tables and pages: each is made anew, or one sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.nightly.job import Job
from jobs.nightly.outputs import refuse_files_of_others
from jobs.report.changes import changes_since_last, memory_path
from jobs.report.find_photos import find_photos
from jobs.watching.labels_state import STATUS_NAME
from jobs.watching.watch_status import show_status
from pipeline.decoding.capture_date import days_taken
from pipeline.errors import LockedError, UsageError
from pipeline.system.file_lock import held
from pipeline.tables.part_store import state_folder
from pipeline.tables.reader import read_rows
from tests.support.bytes_labeller import TOP_K, bring_up_to_date, put
from tests.support.watch_kit import digest
from tests.trial.test_odd_state import STATUS

DEEP = "[" * 3000


@pytest.mark.parametrize(
    "note",
    [
        DEEP,
        "{}",
        '{"digest": "x", "written_at_s": 1e999, "changes": null}',
        '{"digest": "x", "written_at_s": 99999999999999999, "changes": null}',
        '{"digest": "x", "written_at_s": 5, "changes": {"added": 3}}',
    ],
)
def test_rows_of_the_last_page_that_no_page_could_show_count_as_a_first_page(tmp_path: Path, note: str) -> None:
    memory = memory_path(tmp_path / "page.html")
    rows = pa.table({"file_name": ["a"], "status": ["ok"], "label_1": ["x"]})
    changes_since_last(rows, memory)
    pq.write_table(pq.read_table(memory).replace_schema_metadata({b"label_dir_report": note.encode()}), memory)
    assert changes_since_last(rows, memory) is None


def test_names_that_no_file_system_takes_are_not_found(tmp_path: Path) -> None:
    """A name of 300 letters in a table was a traceback of label-report."""
    assert find_photos(tmp_path / "out.parquet", ["x" * 300, "a\0b"]) is None


def test_a_status_without_a_last_success_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = state_folder(tmp_path / "labels") / STATUS_NAME
    status.parent.mkdir()
    kept = {**STATUS, "written_at": time.time()}
    del kept["last_success_at"]
    status.write_text(json.dumps(kept))
    assert show_status(tmp_path / "labels") == 1
    assert "last rows          never" in capsys.readouterr().out


@pytest.mark.parametrize("note", [DEEP, '{"pid": 1e999, "host": 1, "since": 1}', '{"pid": 1, "host": "\\u001b[2J"}'])
def test_an_odd_note_in_a_lock_does_not_hide_that_the_lock_is_held(tmp_path: Path, note: str) -> None:
    lock = tmp_path / "state" / "lock"
    with held(lock, "one"):
        lock.write_text(note)
        with pytest.raises(LockedError, match="another process"), held(lock, "two"):
            pass


@pytest.mark.parametrize("owner", ["/a\0b", "/\ud800"])
def test_a_summary_of_a_job_that_no_file_could_be_is_refused(tmp_path: Path, owner: str) -> None:
    summary = tmp_path / "nightly.summary.json"
    summary.write_text(json.dumps({"job": owner, "tasks": []}))
    job = Job.model_construct(summary=summary, metrics=None, task=())
    with pytest.raises(UsageError, match="holds no summary of a job"):
        refuse_files_of_others(tmp_path / "nightly.toml", job)


def test_a_day_that_is_no_day_is_read_from_the_photo_again(tmp_path: Path) -> None:
    """A kept day became a part of a path: `../../abcd` led out of the dataset."""
    cache, sha256 = tmp_path / "taken.parquet", digest(b"one")
    pq.write_table(pa.table({"sha256": [sha256], "day": ["../../abcd"]}), cache)
    assert days_taken({sha256: str(tmp_path / "nowhere")}, cache, 1) == {sha256: None}


def test_a_part_of_an_interrupted_run_that_names_no_first_photo_is_set_aside(tmp_path: Path) -> None:
    put(tmp_path / "photos" / "a.jpg", b"one")
    out = tmp_path / "out.parquet"
    bring_up_to_date(tmp_path / "photos", out)
    table = pq.read_table(out).replace_schema_metadata(None)
    assert table.num_columns == 10 + 2 * TOP_K
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream)
    content = bytes(stream.getvalue())
    state_folder(out).mkdir(exist_ok=True)
    (state_folder(out) / f"part-00000001-{digest(content)[:16]}.parquet").write_bytes(content)
    put(tmp_path / "photos" / "b.jpg", b"two")
    bring_up_to_date(tmp_path / "photos", out)
    assert read_rows(out).column("file_name").to_pylist() == ["a.jpg", "b.jpg"]
