"""What sharing the work promises: ranges, shards and a merge give the rows of a single run, once each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.scaling.range_plan import cut
from models.artifact import Artifact
from pipeline.records import FileRef
from tests.conftest import Command, command_path, write_photos
from tests.support.object_store import Fault, FaultProxy
from tests.support.store_servers import BUCKET

URL = f"s3://{BUCKET}/photos/"
PARTS = f"s3://{BUCKET}/labels/"


def merged(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `label-merge`."""
    command = [command_path("label-merge"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def rows_of(table: Path) -> pa.Table:
    """Return a table without the one column that differs from run to run."""
    return pq.read_table(table).drop_columns("labelled_at")


def keys_of(store: FaultProxy, prefix: str) -> list[str]:
    return sorted(entry["path"] for chunk in obstore.list(store.store(), prefix) for entry in chunk)


@pytest.mark.parametrize(
    ("shards", "part_rows", "parts"), [(3, 10, 7), pytest.param(16, 4, 16, marks=pytest.mark.faults)]
)
def test_shards_at_a_store_merge_to_the_rows_of_a_single_run(
    store: FaultProxy, label_dir: Command, tmp_path: Path, shards: int, part_rows: int, parts: int
) -> None:
    write_photos(tmp_path / "photos", 50)
    write_photos(tmp_path / "photos/a/b", 12)
    store.put_folder(tmp_path / "photos", "photos/")
    assert label_dir(URL, "single.parquet").returncode == 0
    store.gets.clear()
    for number in (2, 1, *range(3, shards + 1)):
        done = label_dir("--shard", f"{number}/{shards}", "--part-rows", part_rows, URL, PARTS)
        assert done.returncode == 0, done.stderr
    assert {count for key, count in store.gets.items() if key.startswith("photos/")} == {1}
    assert len([key for key in keys_of(store, "labels/") if key.endswith(".parquet")]) == parts
    done = merged(PARTS, "merged.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "merged.parquet").equals(rows_of(tmp_path / "single.parquet"))
    assert (
        pq.read_metadata(tmp_path / "merged.parquet").metadata == pq.read_metadata(tmp_path / "single.parquet").metadata
    )
    # A second run opens nothing, and replaces no part.
    before = [entry["e_tag"] for chunk in obstore.list(store.store(), "labels/") for entry in chunk]
    store.gets.clear()
    assert "62 unchanged" in label_dir(URL, PARTS).stderr
    assert [key for key in store.gets if key.startswith("photos/")] == []
    assert [entry["e_tag"] for chunk in obstore.list(store.store(), "labels/") for entry in chunk] == before


def test_shards_that_start_at_once_agree_on_the_ranges(store: FaultProxy, tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 40)
    store.put_folder(tmp_path / "photos", "photos/")
    options = ["-j", "1", "--pool", "1", "--shard", "auto/3", "--part-rows", "7"]
    processes = [
        subprocess.Popen(
            [command_path("label-dir"), "-m", str(tiny_model.path), *options, URL, PARTS],
            env={**os.environ, **scheduler},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for scheduler in (
            {"JOB_COMPLETION_INDEX": "0"},
            {"JOB_COMPLETION_INDEX": "1"},
            {"SLURM_ARRAY_TASK_ID": "12", "SLURM_ARRAY_TASK_MIN": "10"},
        )
    ]
    told = [process.communicate(timeout=180)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], told
    assert merged(PARTS, "merged.parquet", cwd=tmp_path).returncode == 0
    assert rows_of(tmp_path / "merged.parquet")["file_name"].to_pylist() == sorted(os.listdir(tmp_path / "photos"))


def test_ranges_of_a_folder_go_on_where_they_were_killed(
    label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 120)
    assert label_dir("photos", "single.parquet").returncode == 0
    command = [command_path("label-dir"), "-m", str(tiny_model.path), "--part-rows", "20", "photos", "parts/"]
    first_part = tmp_path / "parts/part-00000.parquet"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not first_part.exists() and process.poll() is None:
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGKILL)
    kept = first_part.read_bytes()
    done = label_dir("--part-rows", "20", "photos", "parts/")
    assert done.returncode == 0, done.stderr
    assert first_part.read_bytes() == kept
    assert merged("parts", "merged.parquet", cwd=tmp_path).returncode == 0
    assert rows_of(tmp_path / "merged.parquet").equals(rows_of(tmp_path / "single.parquet"))


def test_of_two_processes_at_one_part_the_later_ends_with_75(
    store: FaultProxy, label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 6)
    store.put_folder(tmp_path / "photos", "photos/")
    last = f"photos/{max(os.listdir(tmp_path / 'photos'))}"
    store.faults[last] = Fault(stall_s=6, times=1)
    command = [command_path("label-dir"), "-m", str(tiny_model.path), URL, PARTS]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as slow:
        while not store.gets[last] and slow.poll() is None:
            threading.Event().wait(0.01)
        obstore.put(store.store(), "labels/part-00000.parquet", b"of another process")
        assert slow.communicate(timeout=120)[1]
    assert slow.returncode == 75
    assert bytes(obstore.get(store.store(), "labels/part-00000.parquet").bytes()) == b"of another process"


def test_error_rows_end_with_0_if_they_are_said_to_be_ok(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 3)
    (tmp_path / "photos/text.jpg").write_text("no photo")
    assert label_dir("photos", "parts/").returncode == 3
    assert label_dir("--errors-ok", "photos", "parts/").returncode == 0
    assert label_dir("--errors-ok", "photos", "out.parquet").returncode == 0


def test_parts_of_other_photos_and_tables_for_many_are_refused(label_dir: Command, tmp_path: Path) -> None:
    for name in ("photos", "others"):
        write_photos(tmp_path / name, 3)
    assert label_dir("photos", "parts/").returncode == 0
    for arguments, reason in {
        ("others", "parts/"): "holds parts of",
        ("--shard", "1/2", "photos", "out.parquet"): "label-merge",
        ("photos", f"{PARTS}out.parquet"): "label-merge",
        ("--shard", "3/2", "photos", "parts/"): "shard 3 of 2 does not exist",
        ("--shard", "auto/2", "photos", "parts/"): "JOB_COMPLETION_INDEX",
    }.items():
        done = label_dir(*arguments)
        assert done.returncode == 2
        assert reason in done.stderr
    (tmp_path / "parts/ranges.json").write_text(json.dumps({"photos": 1}))
    assert label_dir("photos", "parts/").returncode == 2


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 30, 31])
def test_ranges_hold_every_name_once_and_only_the_last_is_short(count: int) -> None:
    refs = [FileRef(f"{number:03d}.jpg", "", 1, 1) for number in range(count)]
    plan = cut(refs, URL, 10, is_sorted=True)
    shares = [list(planned.names.of(iter(refs))) for planned in plan.ranges()]
    assert [ref for share in shares for ref in share] == refs
    assert all(len(share) == 10 for share in shares[:-1])
    assert shares[-1] or not count
