"""The state, the memory and the end of a process, as the kernel reports them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

_CAUSES = {
    signal.SIGKILL: "killed; out of memory?",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error; out of shared memory?",
    signal.SIGABRT: "aborted",
    signal.SIGILL: "illegal instruction",
    signal.SIGFPE: "arithmetic error",
    signal.SIGTERM: "terminated",
}
_END_WAIT_S = 5.0
_NAME_CHARACTERS = 15
# Arrow's allocator starts this thread; its own fork handlers release its locks (jemalloc, background_thread.c).
_SAFE_THREAD = "jemalloc_bg_thd"
# The 22nd field of /proc/PID/stat, counted from the third.
_START_TICKS_FIELD = 19


def cause_of_end(exit_code: int | None) -> str:
    """Say in words how a process ended: `exit_code` as `Process.exitcode` gives it, negative for a signal."""
    if exit_code is None:
        return "ended"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        number = signal.Signals(-exit_code)
    except ValueError:
        return f"signal {-exit_code}"
    return f"{number.name}: {_CAUSES[number]}" if number in _CAUSES else number.name


def process_state(pid: int) -> str:
    """Return the kernel's letter for the state of `pid` ("R", "S", "T" stopped, ...), "" where the process is gone."""
    fields = _stat_fields(pid)
    return fields[0].decode() if fields else ""


def start_ticks(pid: int) -> int | None:
    """Return when `pid` started, in clock ticks since boot: another process with this number has another start."""
    fields = _stat_fields(pid)
    return int(fields[_START_TICKS_FIELD]) if fields else None


def is_alive(pid: int) -> bool:
    """Tell whether process `pid` exists and is not a zombie."""
    return process_state(pid) not in ("", "Z", "X")


def is_suspended(pid: int) -> bool:
    """Tell whether SIGSTOP, Ctrl-Z or a debugger has halted process `pid`, so that it answers nothing."""
    return process_state(pid) in ("T", "t")


def resident_bytes(pid: int) -> int:
    """Return the resident memory of process `pid`, 0 where the process is gone."""
    return _memory_bytes(pid, 1)


def mapped_bytes(pid: int) -> int:
    """Return the address space of process `pid`, 0 where the process is gone."""
    return _memory_bytes(pid, 0)


def name_process(name: str) -> None:
    """Give this process a name of at most 15 characters, which ps and top show."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:_NAME_CHARACTERS])


def has_one_thread() -> bool:
    """Tell whether this process can be forked: a lock that another thread holds stays locked in the copy for ever."""
    names = [_thread_name(task) for task in Path("/proc/self/task").iterdir()]
    return len([name for name in names if name not in (None, _SAFE_THREAD)]) == 1


def open_descriptors() -> set[int]:
    """Return the open file descriptors of this process."""
    return {int(name) for name in os.listdir("/proc/self/fd")}


def _thread_name(task: Path) -> str | None:
    """Return the name of the thread of /proc/PID/task/TID, None where it has ended since the folder was listed."""
    try:
        return (task / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third one on, none where the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat_file:
            return stat_file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _memory_bytes(pid: int, column: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm_file:
            return int(statm_file.read().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def kill_and_wait(pids: Sequence[int]) -> None:
    """End processes at once and return when they are gone; some may be gone already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until_s = time.monotonic() + _END_WAIT_S
    while any(is_alive(pid) for pid in pids) and time.monotonic() < until_s:
        time.sleep(0.002)
