"""Faults of months of running, in a real `watch-folder`: N photos, N rows, each once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact, read_artifact
from tests.conftest import command_path
from tests.support.waiting import SCALE, wait_until
from tests.support.watch_kit import digest, rows_in
from tests.support.watch_process import WatchFolder, photo

_QUICK = ["--settle", "0.2s", "--flush", "0.2s"]
_EVENTS_ONLY = ["--rescan", "1h"]
_in_each_mode = pytest.mark.parametrize("mode", [_EVENTS_ONLY, ["--poll", "0.3s"]], ids=["events", "polling"])


@pytest.fixture
def begin(tiny_model: Artifact) -> Iterator[Callable[..., WatchFolder]]:
    """Start daemons that end with the test, also when the test fails."""
    with contextlib.ExitStack() as stack:
        yield lambda folder, *options, model=tiny_model, **others: stack.enter_context(
            WatchFolder(folder, model, *options, **others)
        )


def _put(folder: Path, first: int, count: int) -> list[tuple[str, str]]:
    rows = []
    for number in range(first, first + count):
        (folder / f"{number:06d}.png").write_bytes(photo(number))
        rows.append((f"{number:06d}.png", digest(photo(number))))
    return rows


@_in_each_mode
def test_killed_at_random_moments_and_restarted_it_adds_exactly_the_missing_rows(
    tmp_path: Path, begin: Callable[..., WatchFolder], mode: list[str]
) -> None:
    moments = random.Random(6)
    watch = begin(tmp_path, "--settle", "0.1s", "--flush", "0.1s", "--part-rows", "70", *mode)
    expected: list[tuple[str, str]] = []
    for round_number in range(3 if SCALE == 1 else 50):
        watch.wait_until_ready()
        before = len(watch.rows())
        expected += _put(watch.inbox, 100 * round_number, 100)
        wait_until(lambda: len(watch.rows()) > before, "the first rows")  # noqa: B023 - at once
        time.sleep(moments.random() * 0.5)
        watch.kill()
        watch.start_again()
    watch.wait_until_ready()
    wait_until(lambda: len(watch.rows()) >= len(expected), "all rows")
    assert watch.end() == 0
    assert watch.rows() == expected


@_in_each_mode
def test_a_daemon_suspended_while_the_kernels_queue_overflowed_finds_every_photo(
    tmp_path: Path, begin: Callable[..., WatchFolder], mode: list[str]
) -> None:
    watch = begin(tmp_path, *_QUICK, *mode)
    watch.wait_until_ready()
    expected = _put(watch.inbox, 0, 1)
    wait_until(lambda: watch.rows() == expected, "the first row")
    watch.process.send_signal(signal.SIGSTOP)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit + 1000):
        # Two files in turn, so that the kernel cannot join equal events; no photos, so that only events are lost.
        os.utime(watch.inbox) if number % 2 else (watch.inbox / f"{number % 4}.txt").touch()
    expected += _put(watch.inbox, 1, 20000 if SCALE > 1 else 200)
    watch.process.send_signal(signal.SIGCONT)
    wait_until(lambda: len(watch.rows()) >= len(expected), "the rows of photos without events")
    assert ("overflowed" in watch.logged()) == (mode == _EVENTS_ONLY)
    assert watch.end() == 0
    assert watch.rows() == expected


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder with inbox/ (a mounted folder) and labels/ (a disk of 3 MB), for users who may mount."""
    for name in ("inbox", "share", "labels"):
        (tmp_path / name).mkdir()
    commands = [
        ["mount", "--bind", str(tmp_path / "share"), str(tmp_path / "inbox")],
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path / "labels")],
    ]
    done = [subprocess.run(command, capture_output=True, check=False).returncode for command in commands]
    try:
        if any(done):
            pytest.skip("this user may not mount")
        yield tmp_path
    finally:
        for name in ("inbox", "labels"):
            subprocess.run(["umount", "-l", str(tmp_path / name)], capture_output=True, check=False)


@_in_each_mode
def test_a_full_disk_and_an_unmounted_inbox_do_not_lose_a_photo(
    mounted: Path, begin: Callable[..., WatchFolder], mode: list[str]
) -> None:
    options = [*_QUICK, *mode, "--done", f"move:{mounted / 'done'}", "--metrics", "127.0.0.1:0"]
    watch = begin(mounted, *options)
    watch.wait_until_ready()
    address = _address(watch)
    expected = _put(watch.inbox, 0, 20)
    wait_until(lambda: watch.rows() == expected, "the first rows")
    wait_until(lambda: not list(watch.inbox.glob("*.png")), "the first photos to be moved")

    with (watch.labels / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(bytes(4096))
    expected += _put(watch.inbox, 20, 20)
    wait_until(lambda: "output: rows cannot be written" in watch.logged(), "the complaint")
    assert _status(f"{address}/healthz") == 503
    assert "labeldir_healthy 0.0" in _get(f"{address}/metrics")
    time.sleep(60.0 if SCALE > 1 else 0.0)
    assert len(list(watch.inbox.glob("*.png"))) == 20
    (watch.labels / "ballast").unlink()
    wait_until(lambda: watch.rows() == expected, "the rows that did not fit")
    wait_until(lambda: "labeldir_healthy 1.0" in _get(f"{address}/metrics"), "good health")
    assert _get(f"{address}/healthz") == "ok\n"

    subprocess.run(["umount", "-l", str(watch.inbox)], check=True)
    wait_until(lambda: "inbox: paused" in watch.logged(), "the pause")
    expected += _put(mounted / "share", 40, 20)
    subprocess.run(["mount", "--bind", str(mounted / "share"), str(watch.inbox)], check=True)
    wait_until(lambda: watch.rows() == expected, "the rows of what came while it was away")
    expected += _put(watch.inbox, 60, 1)
    wait_until(lambda: watch.rows() == expected, "a row by an event of the new mount")
    assert watch.end() == 0
    assert sorted(path.name for path in (mounted / "done").iterdir()) == [name for name, _ in expected]


@pytest.mark.parametrize(
    "limit", ["0 > /proc/sys/user/max_inotify_instances", "3 > /proc/sys/user/max_inotify_watches"]
)
def test_with_too_few_inotify_watches_it_polls_with_a_warning(tmp_path: Path, tiny_model: Artifact, limit: str) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    limited = f"echo {limit}"
    if subprocess.run([*unshare, limited], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a user namespace")
    for number in range(10):
        (tmp_path / "inbox" / f"{number}").mkdir(parents=True)
    command = [command_path("watch-folder"), "inbox", "labels", "-m", str(tiny_model.path), "--pool", "1", "-j", "1"]
    script = f"{limited}; exec {' '.join([*command, *_QUICK, *_EVENTS_ONLY])} 2>log.txt"
    process = subprocess.Popen([*unshare, script], cwd=tmp_path)
    try:
        log = tmp_path / "log.txt"
        wait_until(lambda: log.exists() and "no events" in log.read_text(), "the way out")
        assert ": polling every 5 s" in log.read_text()
        expected = [(f"9/{name}", content) for name, content in _put(tmp_path / "inbox" / "9", 0, 5)]
        wait_until(lambda: rows_in(tmp_path / "labels") == expected, "rows without events")
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_service_from_start_to_end_loses_no_photo_and_reports_its_state(
    tmp_path: Path, tiny_model: Artifact, begin: Callable[..., WatchFolder]
) -> None:
    (tmp_path / "inbox").mkdir()
    own_model = tmp_path / "model.onnx"
    shutil.copyfile(tiny_model.path, own_model)
    expected = _put(tmp_path / "inbox", 0, 40)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        options = [*_QUICK, *_EVENTS_ONLY, "--metrics", "127.0.0.1:0", "--status", str(tmp_path / "status.json")]
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        watch = begin(tmp_path, *options, "--log-format", "json", model=read_artifact(own_model), env=environment)
        expected += _put(watch.inbox, 40, 40)
        assert "READY=1" in manager.recv(4096).decode()
        wait_until(lambda: watch.rows() == expected, "what came while it was down and while it started")
        assert "WATCHDOG=1" in manager.recv(4096).decode()

        _check_metrics(watch, len(expected))
        _check_a_second_one_is_refused(watch, tiny_model)
        _check_status(watch, len(expected))
        assert json.loads((tmp_path / "status.json").read_text())["health"] == "ok"

        other = re.sub(rb'"red"', b'"rot"', own_model.read_bytes())
        (tmp_path / "new.onnx").write_bytes(other)
        (tmp_path / "new.onnx").replace(own_model)
        expected += _put(watch.inbox, 80, 40)
        watch.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "from now on" in watch.logged(), "the new model")
        expected += _put(watch.inbox, 120, 40)
        wait_until(lambda: watch.rows() == expected, "the rows around the change of the model")

        expected += _put(watch.inbox, 160, 40)
        assert watch.end() == 0
        assert all(json.loads(line)["message"] for line in watch.logged().splitlines())
    assert subprocess.run([command_path("watch-folder"), "status", str(watch.labels)], check=False).returncode == 1
    once = begin(tmp_path, *_QUICK, "--once", model=read_artifact(own_model))
    assert once.process.wait(120) == 0, once.logged()
    assert once.rows() == expected


def _address(watch: WatchFolder) -> str:
    match = re.search(r"metrics at port (\d+)", watch.logged())
    assert match is not None
    return f"http://127.0.0.1:{match[1]}"


def _check_metrics(watch: WatchFolder, photos: int) -> None:
    address = _address(watch)
    wait_until(lambda: f'labeldir_images_total{{status="ok"}} {photos}.0' in _get(f"{address}/metrics"), "the metrics")
    page = _get(f"{address}/metrics")
    for name in ("lag_seconds_bucket", "queue_depth", "oldest_unlabelled_seconds", "rescan_finds_total"):
        assert f"labeldir_{name}" in page
    assert "labeldir_process_restarts_total 0" in page and "labeldir_last_success_timestamp_seconds 1." in page
    assert _get(f"{address}/healthz") == "ok\n"
    assert _status(f"{address}/etc/passwd") == 404


def _get(url: str) -> str:
    # The opener that urlopen keeps may hold a proxy that another test has set; this address needs no proxy.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        return str(answer.read().decode())


def _status(url: str) -> int:
    try:
        _get(url)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


def _check_a_second_one_is_refused(watch: WatchFolder, model: Artifact) -> None:
    command = [command_path("watch-folder"), str(watch.inbox), str(watch.labels), "-m", str(model.path)]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert second.returncode == 75 and str(watch.process.pid) in second.stderr


def _check_status(watch: WatchFolder, photos: int) -> None:
    wait_until(lambda: watch.status()["labelled"] == photos, "the status")
    command = [command_path("watch-folder"), "status", str(watch.labels)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0 and re.search(rf"^labelled +{photos}$", told.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "reason"),
    [
        (["inbox", "inbox/labels"], 2, "must not lie in each other"),
        (["inbox", "."], 2, "must not lie in each other"),
        (["inbox", "labels", "--done", "burn"], 2, "keep, delete or move:DIR"),
        (["inbox", "labels", "--done", "move:."], 2, "choose another"),
        (["inbox", "labels", "--metrics", "9108"], 2, "HOST:PORT"),
        (["inbox", "labels", "--flush", "soon"], 2, "no duration"),
        (["nowhere", "labels"], 66, "cannot be listed"),
        (["inbox", "file/labels"], 74, "cannot be written"),
        (["status", "labels"], 66, "no status"),
    ],
)
def test_an_impossible_request_is_refused_with_its_exit_code(
    tmp_path: Path, arguments: list[str], exit_code: int, reason: str
) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "file").touch()
    done = subprocess.run(
        [command_path("watch-folder"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == exit_code and reason in done.stderr, done.stderr
