"""What every child process does first, and how its end reads: no Ctrl-C of its own, a named cause."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection

_CAUSES = {
    signal.SIGKILL: "killed; out of memory?",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGBUS: "bus error; out of shared memory?",
    signal.SIGABRT: "aborted",
    signal.SIGILL: "illegal instruction",
    signal.SIGFPE: "arithmetic error",
    signal.SIGTERM: "terminated",
}
# A child's helper threads come from its engine alone; -P keeps the working directory out of its imports.
_CHILD_ENVIRONMENT = {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def leave_signals_to_parent() -> None:
    """Ignore Ctrl-C, which reaches the whole terminal's group, and take SIGTERM as an order to end at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def starting_children() -> Iterator[None]:
    """Start child processes inside: they begin deaf to Ctrl-C and with the environment children need.

    Ctrl-C is held back meanwhile, not lost: it reaches this process when the block ends.
    """
    # It lifts the mask itself when it starts, so it must run before.
    resource_tracker.ensure_running()
    # A child that knows this process's main module imports it, and a door's command line is not for children.
    main = vars(sys.modules["__main__"])
    main_origin: dict[str, object] = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    before = {name: os.environ.get(name) for name in _CHILD_ENVIRONMENT}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_CHILD_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        main.update(main_origin)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def pipe_to_child() -> Iterator[tuple[Connection, Connection]]:
    """Give our end of a pipe and that of a child to be started inside, which has its own copy afterwards.

    Where starting it fails our end is closed, too.
    """
    ours, theirs = multiprocessing.Pipe()
    try:
        yield ours, theirs
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import something big inside: what it makes stays, so looking for garbage meanwhile only costs a tenth more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


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


def is_stopped(pid: int) -> bool:
    """Tell whether something (SIGSTOP, Ctrl-Z, a debugger) halted process `pid`; it will not answer."""
    return process_state(pid) in ("T", "t")


def is_alive(pid: int) -> bool:
    """Tell whether process `pid` exists and is not a zombie."""
    return process_state(pid) not in ("", "Z", "X")


def process_state(pid: int) -> str:
    """Return the kernel's letter for the state of `pid` ("R", "S", "T" stopped, ...), "" where it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat_file:
            fields = stat_file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return fields[0].decode()


def resident_bytes(pid: int) -> int:
    """Return the resident memory of `pid`, 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm_file:
            return int(statm_file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def kill(pid: int) -> None:
    """End process `pid` at once; it may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
