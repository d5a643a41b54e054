"""What `label-dir s3://BUCKET/PREFIX/ OUT` promises, tried through the real command against a real server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import obstore
import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact
from models.system.process_state import is_alive
from tests.conftest import Command, command_path, write_photos
from tests.support.object_store import Fault, FaultProxy
from tests.support.store_servers import BUCKET

URL = f"s3://{BUCKET}/photos/"


def rows_of(table: Path) -> dict[str, dict[str, object]]:
    """Return the rows of a table by the names of their photos."""
    return {row["file_name"]: row for row in pq.read_table(table).to_pylist()}


def errors_of(table: Path) -> dict[str, str]:
    """Return the class of each error row's error."""
    rows = rows_of(table).values()
    return {str(row["file_name"]): str(row["error"]).partition(":")[0] for row in rows if row["error"] is not None}


def test_csv_has_the_same_and_a_vanished_object_loses_its_row(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 6)
    store.put_folder(tmp_path / "photos", "photos/")
    assert label_dir(URL, "out.csv").returncode == 0
    obstore.delete(store.store(), "photos/00003-green.png")
    store.gets.clear()
    done = label_dir(URL, "out.csv")
    assert "5 unchanged" in done.stderr
    assert "1 gone" in done.stderr
    assert not store.gets
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 6


def test_each_fault_of_an_object_is_its_own_row_and_no_others(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 40)
    store.put_folder(tmp_path / "photos", "photos/")
    names = [path.name for path in sorted((tmp_path / "photos").iterdir())]
    faults = {
        "vanished": Fault(404, "NoSuchKey"),
        "permission": Fault(403, "AccessDenied"),
        "io": Fault(503, "SlowDown"),
    }
    expected = dict(zip(names, faults, strict=False))
    store.faults = {f"photos/{name}": faults[kind] for name, kind in expected.items()}
    store.faults |= {
        f"photos/{names[5]}": Fault(503, "SlowDown", times=2),
        f"photos/{names[6]}": Fault(is_cut=True, times=1),
        f"photos/{names[7]}": Fault(is_cut=True),
        f"photos/{names[8]}": Fault(403, "InvalidObjectState"),
        f"photos/{names[9]}": Fault(400, "ExpiredToken"),
        f"photos/{names[10]}": Fault(stall_s=60),
    }
    expected |= {names[7]: "io", names[8]: "permission", names[9]: "permission", names[10]: "io"}
    done = label_dir("--timeout", "15s", URL, "out.parquet")
    assert done.returncode == 3, done.stderr
    rows = rows_of(tmp_path / "out.parquet")
    assert sorted(rows) == names
    assert errors_of(tmp_path / "out.parquet") == expected
    assert "archived" in str(rows[names[8]]["error"])
    assert "ExpiredToken" in str(rows[names[9]]["error"])
    assert "15 s" in str(rows[names[10]]["error"]) or "in time" in str(rows[names[10]]["error"])
    for secret in ("secret-of-the-tests", "key-of-the-tests", "127.0.0.1"):
        assert secret not in done.stderr
        assert secret not in str(rows)
    # What may have passed is tried again, and nothing else.
    store.faults.clear()
    store.gets.clear()
    assert label_dir(URL, "out.parquet").returncode == 0
    assert sorted(key.removeprefix("photos/") for key in store.gets) == sorted(expected)


def test_one_decoder_has_up_to_thirty_two_requests_under_way(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 40)
    store.put_folder(tmp_path / "photos", "photos/")
    store.delay_s = 3
    assert label_dir("-j", "1", URL, "out.parquet").returncode == 0
    assert 20 <= store.most_at_once <= 32
    assert set(store.gets.values()) == {1}


def test_decoders_killed_while_they_fetch_cost_no_object(
    store: FaultProxy, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 150)
    store.put_folder(tmp_path / "photos", "photos/")
    # At first nothing arrives at all: workers that die then have decoded nothing, and are no sign of a broken machine.
    store.delay_s = 300
    command = [command_path("label-dir"), "-m", str(tiny_model.path), "-j", "2", "-b", "8", URL, "out.parquet"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        until_s = time.monotonic() + 120
        rounds, requested = 0, 0
        while process.poll() is None and time.monotonic() < until_s:
            time.sleep(0.1)
            if rounds < 16 and sum(store.gets.values()) > requested and (decoders := decoders_of(process.pid)):
                # Before the kill: what their successors request is answered.
                store.delay_s = 300 if rounds < 9 else 0.15
                for pid in decoders:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                rounds, requested = rounds + 1, sum(store.gets.values()) + 10
        assert process.stderr is not None
        told = process.stderr.read()
    assert rounds == 16
    assert process.returncode == 0, told
    rows = rows_of(tmp_path / "out.parquet")
    assert sorted(rows) == sorted(path.name for path in (tmp_path / "photos").iterdir())
    assert all(name.split("-")[1] == f"{row['label_1']}.png" for name, row in rows.items())


def decoders_of(pid: int) -> list[int]:
    """Return the decode workers of a command: the children of its fork server."""
    servers = [child for child in children_of(pid) if children_of(child)]
    return [child for server in servers for child in children_of(server) if is_alive(child)]


def children_of(pid: int) -> list[int]:
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []


def test_wrong_credentials_and_missing_buckets_are_one_sentence(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 40)
    store.put_folder(tmp_path / "photos", "photos/")
    store.faults = {f"photos/{path.name}": Fault(403, "AccessDenied") for path in (tmp_path / "photos").iterdir()}
    for url, reason in {
        URL: "none of the first 16 objects can be read: no permission to read the object",
        f"s3://{BUCKET}/nothing/": "holds no object",
        "s3://no-such-bucket/photos/": "cannot be listed",
    }.items():
        done = label_dir(url, "out.parquet")
        assert done.returncode == 66, done.stderr
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/photos/", "s3://bucket/photos/?X-Amz-Signature=secret", "s3:///photos", "ftp://a/b"]
)
def test_urls_with_credentials_or_without_a_bucket_are_refused_and_not_repeated(label_dir: Command, url: str) -> None:
    done = label_dir(url, "out.parquet")
    assert done.returncode == 2
    assert "secret" not in done.stderr


def test_a_table_of_one_url_is_not_continued_with_another(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 3)
    for prefix in ("photos/", "others/"):
        store.put_folder(tmp_path / "photos", prefix)
    assert label_dir(URL, "out.parquet").returncode == 0
    for place in (f"s3://{BUCKET}/others/", "photos"):
        done = label_dir(place, "out.parquet")
        assert done.returncode == 2
        assert f"holds the labels of {URL}" in done.stderr
    assert label_dir("--adopt", f"s3://{BUCKET}/others", "out.parquet").returncode == 0
    assert label_dir(f"s3://{BUCKET}/others/", "out.parquet").returncode == 0


def test_most_objects_gone_stop_the_run(store: FaultProxy, label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 30)
    store.put_folder(tmp_path / "photos", "photos/")
    assert label_dir(URL, "out.parquet").returncode == 0
    obstore.delete(store.store(), [f"photos/{path.name}" for path in sorted((tmp_path / "photos").iterdir())[:20]])
    before = (tmp_path / "out.parquet").read_bytes()
    assert label_dir(URL, "out.parquet").returncode == 69
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_a_store_that_lists_keys_in_no_order_gives_the_same_table(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 40)
    store.put_folder(tmp_path / "photos", "photos/")
    assert label_dir(URL, "sorted.parquet").returncode == 0
    store.is_unsorted = True
    done = label_dir(URL, "unsorted.parquet")
    assert done.returncode == 0, done.stderr
    tables = [
        pq.read_table(tmp_path / name).drop_columns("labelled_at") for name in ("sorted.parquet", "unsorted.parquet")
    ]
    assert tables[0].equals(tables[1])
    store.gets.clear()
    assert "40 unchanged" in label_dir(URL, "unsorted.parquet").stderr
    assert not store.gets


def test_watch_labels_new_objects_and_ends_when_told(store: FaultProxy, tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 4)
    store.put_folder(tmp_path / "photos", "photos/")
    command = [command_path("label-dir"), "-m", str(tiny_model.path), "--watch", "--poll", "500ms", URL, "out.parquet"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "4 labelled" in process.stderr.readline()
        obstore.put(store.store(), "photos/new.png", (tmp_path / "photos/00002-red.png").read_bytes())
        assert "1 labelled, 4 unchanged" in process.stderr.readline()
        process.terminate()
        assert process.wait(60) == 0
    assert rows_of(tmp_path / "out.parquet")["new.png"]["label_1"] == "red"


def test_a_task_of_a_job_file_takes_a_url_and_its_output_is_shown(
    store: FaultProxy, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 9)
    store.put_folder(tmp_path / "photos", "photos/")
    (tmp_path / "job.toml").write_text(
        f'''summary = "summary.json"
[[task]]
name = "bucket"
photos = "{URL}"
output = "out.parquet"
report = "out.html"
model = "{tiny_model.path}"
[[task]]
name = "days"
photos = "{URL}"
output = "days"
partition_by = "mtime"
model = "{tiny_model.path}"
'''
    )

    def run(*arguments: str) -> str:
        command = [command_path(arguments[0]), *arguments[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "9 are new or changed" in run("label-job", "check", "job.toml")
    run("label-job", "run", "job.toml")
    store.gets.clear()
    run("label-job", "run", "job.toml")
    assert not store.gets
    for table in ("out.parquet", "days"):
        assert "00002-red.png" in run("label-show", table)
    assert "00002-red.png" in (tmp_path / "out.html").read_text()
