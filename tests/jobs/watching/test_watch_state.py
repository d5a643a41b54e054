"""What a real `watch-folder` keeps beside its labels, what it tells of itself, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import psutil
import pyarrow.dataset as pads
import pytest

from models.artifact import Artifact, read_artifact
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.prometheus import MetricsServer
from pipeline.tables.part_store import state_folder
from tests.conftest import command_path
from tests.support.waiting import wait_until
from tests.support.watch_kit import digest, rows_in
from tests.support.watch_process import WatchFolder, photo

_QUICK = ["--settle", "0.2s", "--flush", "0.2s"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, tiny_model: Artifact) -> Run:
    """Run `watch-folder inbox labels --once` with more options, to its end."""
    (tmp_path / "inbox").mkdir()

    def to_the_end(*options: str) -> subprocess.CompletedProcess[str]:
        command = [command_path("watch-folder"), "inbox", "labels", "-m", str(tiny_model.path), "--once", *_QUICK]
        command += ["--pool", "1", "-j", "1", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    return to_the_end


@pytest.fixture
def watch(tmp_path: Path, tiny_model: Artifact) -> Iterator[WatchFolder]:
    """A running daemon with a model of its own that has labelled one photo."""
    own_model = Path(shutil.copyfile(tiny_model.path, tmp_path / "model.onnx"))
    with WatchFolder(tmp_path, read_artifact(own_model), *_QUICK) as daemon:
        daemon.wait_until_ready()
        (daemon.inbox / "a.png").write_bytes(photo(1))
        wait_until(lambda: daemon.rows() == [("a.png", digest(photo(1)))], "the first row")
        yield daemon


def _status(labels: Path) -> subprocess.CompletedProcess[str]:
    command = [command_path("watch-folder"), "status", str(labels)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_every_reader_finds_exactly_the_rows_because_the_state_lies_beside(tmp_path: Path, watch: WatchFolder) -> None:
    """Case 7: DuckDB's `labels/*/*.parquet` also matches hidden folders."""
    labels = watch.labels
    assert [path.name for path in labels.iterdir() if not path.name.startswith("date=")] == []
    assert (tmp_path / ".labels.label-dir" / "status.json").exists()
    for pattern in (f"{labels}/*/*.parquet", f"{labels}/**/*.parquet"):
        assert duckdb.execute(f"SELECT file_name FROM '{pattern}'").fetchall() == [("a.png",)]
    assert list(pd.read_parquet(labels)["file_name"]) == ["a.png"]
    assert pads.dataset(labels, format="parquet", partitioning="hive").count_rows() == 1
    # Spark lists a folder recursively and skips names that begin with a dot or an underscore.
    listed = [path for path in labels.rglob("*") if path.is_file() and path.name[0] not in "._"]
    assert [path.suffix for path in listed] == [".parquet"]
    assert _status(labels).returncode == 0


def test_a_state_inside_the_labels_is_removed_once_and_its_photos_keep_their_rows(tmp_path: Path, run: Run) -> None:
    """Case 7: what an earlier version left."""
    (tmp_path / "inbox" / "a.png").write_bytes(photo(1))
    assert run().returncode == 0
    inside = tmp_path / "labels" / ".watch-folder"
    inside.mkdir()
    for name in ("index.sqlite", "status.json", "lock"):
        (inside / name).write_bytes(b"of an earlier version")
    assert run().returncode == 0
    assert rows_in(tmp_path / "labels") == [("a.png", digest(photo(1)))]
    assert not inside.exists()


def test_a_folder_that_is_not_the_state_of_these_labels_is_left_alone(tmp_path: Path, run: Run) -> None:
    (tmp_path / ".labels.label-dir").mkdir()
    (tmp_path / ".labels.label-dir" / "diary.txt").write_text("foreign")
    done = run()
    assert done.returncode == 2 and "not ours" in done.stderr
    assert [path.name for path in (tmp_path / ".labels.label-dir").iterdir()] == ["diary.txt"]


def test_it_waits_for_a_model_that_is_away_while_its_classifiers_die(tmp_path: Path, watch: WatchFolder) -> None:
    """Case 22: it ended with 66."""
    (tmp_path / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    for child in psutil.Process(watch.process.pid).children(recursive=True):
        child.kill()
    (watch.inbox / "b.png").write_bytes(photo(2))
    wait_until(lambda: "labelling: cannot read the model" in watch.logged(), "a restart without the model")
    assert watch.process.poll() is None, watch.logged()
    (tmp_path / "elsewhere.onnx").rename(tmp_path / "model.onnx")
    wait_until(lambda: len(watch.rows()) == 2, "the row of the restarted workers")
    assert watch.end() == 0


def _rewrite(path: Path, **changes: object) -> None:
    status: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(status | changes), encoding="utf-8")


def test_a_status_that_is_out_of_date_or_of_another_process_is_not_well(watch: WatchFolder) -> None:
    """Case 35: on a full disk the file stays as it was; after an end another process may have the number."""
    path = state_folder(watch.labels) / "status.json"
    watch.process.send_signal(signal.SIGSTOP)
    _rewrite(path, health="ok")
    assert _status(watch.labels).returncode == 0
    _rewrite(path, written_at=time.time() - 120)
    told = _status(watch.labels)
    assert told.returncode == 1 and " s old (is the disk full" in told.stdout
    _rewrite(path, written_at=time.time(), pid=os.getpid())
    told = _status(watch.labels)
    assert told.returncode == 1 and "not running" in told.stdout
    watch.process.send_signal(signal.SIGCONT)
    assert watch.end() == 0


@pytest.mark.parametrize("content", [b"{}", b"[]", b"no json", b"\xff", b"[" * 100_000, b'{"state": 1}', b""])
def test_a_status_file_of_anything_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    """Case 34."""
    (tmp_path / ".labels.label-dir").mkdir()
    (tmp_path / ".labels.label-dir" / "status.json").write_bytes(content)
    told = _status(tmp_path / "labels")
    assert told.returncode == 66 and told.stderr.count("\n") == 1 and "Traceback" not in told.stderr
    assert "is no status of" in told.stderr


def test_once_ends_with_74_where_photos_cannot_be_moved(tmp_path: Path, run: Run) -> None:
    """Case 36: the rows are there and the photos are not where they were wanted."""
    (tmp_path / "inbox" / "sub").mkdir()
    (tmp_path / "inbox" / "sub" / "a.png").write_bytes(photo(1))
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "sub").write_bytes(b"a file in the way")
    done = run("--done", "move:done")
    assert done.returncode == 74 and "photos cannot be moved away" in done.stderr
    assert (tmp_path / "inbox" / "sub" / "a.png").exists()
    (tmp_path / "done" / "sub").unlink()
    assert run("--done", "move:done").returncode == 0
    assert (tmp_path / "done" / "sub" / "a.png").exists()


def test_another_number_of_labels_is_a_usage_error(tmp_path: Path, run: Run) -> None:
    (tmp_path / "inbox" / "a.png").write_bytes(photo(1))
    assert run("--topk", "2").returncode == 0
    done = run("--topk", "1")
    assert done.returncode == 2 and "use --topk 2" in done.stderr and "Traceback" not in done.stderr


def test_a_fifo_with_the_markers_name_stops_neither_the_start_nor_the_end(tmp_path: Path, run: Run) -> None:
    """Case 18: opening it waited for ever."""
    (tmp_path / "inbox" / "a.png").write_bytes(photo(1))
    with_marker = run()
    assert with_marker.returncode == 0 and list((tmp_path / "inbox").glob(".*")) == []
    from pipeline.sources.walk import WalkRules
    from pipeline.watching.watched_folder import WatchedFolder

    os.mkfifo(WatchedFolder(tmp_path / "inbox", WalkRules(), tmp_path / "labels").marker)
    assert run().returncode == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_health_is_served_to_head_requests_and_over_both_protocols(host: str) -> None:
    """Small cases: HEAD /healthz and `--metrics [::1]:9108`."""
    if host == "::1":
        try:
            with socket.create_server((host, 0), family=socket.AF_INET6):
                pass
        except OSError:
            pytest.skip("this machine has no IPv6")
    server = MetricsServer(host, 0, DaemonStats())
    server.start()
    try:
        address = f"http://{f'[{host}]' if ':' in host else host}:{server.port}/healthz"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(address, method="HEAD"), timeout=30) as answer:
            assert answer.status == 200 and answer.headers["Content-Length"] == "3" and answer.read() == b""
        with opener.open(address, timeout=30) as answer:
            assert answer.read() == b"ok\n"
    finally:
        server.close()
