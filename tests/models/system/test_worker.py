"""A worker: what a child process may do to its parent, and what is known of it afterwards. No model is needed."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from models.system.process_state import is_alive, mapped_bytes, process_state
from models.system.worker import WORKER_GONE, Worker, WorkerOptions, limit_memory, start_worker

SPAWN = WorkerOptions()


def _echo(connection: Connection, prefix: str = "") -> None:
    while True:
        try:
            connection.send(prefix + connection.recv())
        except EOFError:
            return


def _end_by(connection: Connection, deed: str) -> None:
    if deed == "abort":
        os.abort()
    if deed == "segfault":
        ctypes.string_at(0)
    os._exit(7)


def _tell_of_itself(connection: Connection) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    threads = [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")]
    limits = resource.getrlimit(resource.RLIMIT_AS)
    connection.send((handlers, threads, limits, mapped_bytes(os.getpid())))


def _sleep(connection: Connection) -> None:
    connection.send("asleep")
    time.sleep(1e6)


@pytest.fixture
def echo() -> Iterator[Worker]:
    worker = start_worker(_echo, SPAWN, "heard ")
    yield worker
    if not worker.connection.closed:
        worker.end()


def test_a_worker_answers_and_ends_by_itself_when_its_pipe_closes(echo: Worker) -> None:
    echo.connection.send("one")
    assert echo.connection.recv() == "heard one"
    assert echo.end(patience_s=30) == "exit code 0"


@pytest.mark.parametrize(
    ("deed", "cause"),
    [("abort", "SIGABRT: aborted"), ("segfault", "SIGSEGV: segmentation fault"), ("exit", "exit code 7")],
)
def test_the_end_of_a_worker_has_a_named_cause(deed: str, cause: str) -> None:
    worker = start_worker(_end_by, SPAWN, deed)
    with pytest.raises(WORKER_GONE):
        worker.connection.recv()
    assert worker.end(patience_s=30) == cause


def test_a_worker_killed_for_a_reason_names_that_reason_and_is_gone(echo: Worker) -> None:
    pid = echo.pid
    echo.kill("no result within 5 s")
    assert not is_alive(pid)
    assert echo.end() == "no result within 5 s"
    assert process_state(pid) == ""


def test_a_busy_worker_is_ended_at_once_even_when_suspended() -> None:
    worker = start_worker(_sleep, SPAWN)
    assert worker.connection.recv() == "asleep"
    os.kill(worker.pid, signal.SIGSTOP)
    assert worker.end() == "SIGKILL: killed; out of memory?"


def test_a_worker_that_reads_nothing_does_not_hold_up_its_parent_for_ever(echo: Worker) -> None:
    echo.connection.send("one")
    echo.connection.recv()
    os.kill(echo.pid, signal.SIGSTOP)
    with pytest.raises(WORKER_GONE):
        echo.connection.send("x" * (1 << 24))


def test_a_worker_leaves_signals_to_its_parent_and_keeps_to_one_thread() -> None:
    worker = start_worker(_tell_of_itself, SPAWN)
    handlers, threads, limits, _ = worker.connection.recv()
    worker.end(patience_s=30)
    assert handlers == [signal.SIG_IGN, signal.SIG_DFL, signal.SIG_IGN]
    assert threads == ["1", "1"]
    assert limits == resource.getrlimit(resource.RLIMIT_AS)


def test_a_worker_may_map_only_so_much_more_memory() -> None:
    worker = start_worker(_tell_of_itself, WorkerOptions(memory_bytes=1 << 30))
    _, _, (soft, hard), mapped = worker.connection.recv()
    worker.end(patience_s=30)
    assert mapped <= soft <= mapped + (1 << 30)
    assert hard == resource.getrlimit(resource.RLIMIT_AS)[1]


def test_a_memory_limit_stays_within_the_hard_limit_that_a_process_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 31))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    limit_memory(1 << 40)
    assert asked == [(1 << 31, 1 << 31)]


def test_a_worker_ends_with_its_parent_however_the_parent_ends(tmp_path: Path) -> None:
    program = """
import os, signal
from models.system.worker import WorkerOptions, start_worker
from tests.models.system.test_worker import _sleep
worker = start_worker(_sleep, WorkerOptions())
worker.connection.recv()
print(worker.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    until_s = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not is_alive(pid)


def test_a_forked_worker_keeps_no_file_of_its_parent_open_and_shares_its_imports(tmp_path: Path) -> None:
    program = """
import sys, threading
from models.system.worker import WorkerOptions, start_worker
from tests.models.system.test_worker import _tell_of_files
lock = open(sys.argv[1], "w")
sys.modules["imported_by_the_parent"] = sys
for _ in range(2):
    worker = start_worker(_tell_of_files, WorkerOptions("fork"))
    files, has_import = worker.connection.recv()
    print(sys.argv[1] in files, has_import, worker.end(patience_s=30))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    # The second worker is a program of its own: its parent has threads by then.
    assert done.stdout.splitlines() == ["False True exit code 0", "False False exit code 0"]


def _tell_of_files(connection: Connection) -> None:
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    files = [os.readlink(link) for link in links if link.is_symlink()]
    connection.send((files, "imported_by_the_parent" in sys.modules))
