"""CPU time, time queued for a CPU, and memory of a process and its descendants, read from the kernel."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.loading.fork_server import FORK_SERVER_NAME

_SAMPLES_PER_S = 10


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of all threads of a process; of its main thread, seconds on a CPU and seconds queued for a CPU."""

    cpu_s: float
    running_s: float
    queued_s: float


def usage_of(pid: int) -> Usage:
    """The usage of process `pid` so far. Raises OSError where the process has ended."""
    running_ns, queued_ns = _schedstat(Path(f"/proc/{pid}/schedstat"))
    cpu_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            cpu_ns += _schedstat(task / "schedstat")[0]
    return Usage(cpu_ns / 1e9, running_ns / 1e9, queued_ns / 1e9)


def _schedstat(path: Path) -> tuple[int, int]:
    running_ns, queued_ns, _ = path.read_text().split()
    return int(running_ns), int(queued_ns)


def roles(parent_pid: int) -> dict[int, str]:
    """The roles, by pid, of the processes of a run of label-dir whose main process is `parent_pid`."""
    found = {parent_pid: "main"}
    for process in psutil.Process(parent_pid).children():
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("classifier"):
                found[process.pid] = "classify"
            elif process.name() == FORK_SERVER_NAME:
                found.update({child.pid: "decode" for child in process.children()})
    return found


def tree_pss_bytes(pid: int) -> int:
    """The proportional set size of process `pid` and its descendants; shared pages are counted once."""
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().pss
    return total


def tree_private_bytes(pid: int) -> int:
    """The memory that process `pid` and its descendants alone have.

    Other than the proportional set size it does not change when another program that uses the same libraries ends.
    """
    total = 0
    with contextlib.suppress(psutil.Error):
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
    return total


class PeakMemory:
    """Samples the proportional set size of a process tree while it is entered; `peak_bytes` is the largest sample."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            began_s = time.monotonic()
            self.peak_bytes = max(self.peak_bytes, tree_pss_bytes(self._pid))
            # Reading the page tables of a process delays it, so the pause grows with the time that a sample takes.
            self._ended.wait(max(1 / _SAMPLES_PER_S, 10 * (time.monotonic() - began_s)))
