"""Starts the process that decode processes are forked from: thread-free, with all that they need loaded.

A process of one thread forks it from itself, so that one import, and one copy of its memory, serves both; a process
with threads cannot do that safely, and starts it anew, as multiprocessing does.
"""

from __future__ import annotations

import functools
import importlib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver, util
from pathlib import Path

from models.system.parent_death import die_with_parent
from pipeline.loading.worker_monitor import kill_and_wait
from pipeline.system.child_process import is_stopped, leave_signals_to_parent, starting_children

logger = logging.getLogger(__name__)

# What decode processes need: modules whose import loads it.
PIPES, DATA_LOADER = "pipeline.loading.preload", "pipeline.loading.preload_torch"
_LIFELINE = "pipeline.loading.preload_parent_death"
# Later versions hand over a key besides the two descriptors, and start the server in a way of their own.
_IS_KNOWN_VERSION = sys.version_info < (3, 14)
# Arrow's allocator starts it; it holds no lock over a fork, by handlers of its own (jemalloc, background_thread.c).
_SAFE_THREAD = "jemalloc_bg_thd"
_STANDARD_DESCRIPTORS = (0, 1, 2)


def start_fork_server(needed: str) -> None:
    """Start the fork server, unless it runs already; importing the module `needed` loads what decoders need.

    Raises:
        OSError: the system does not let it start.
    """
    # Also where it is forked: one that takes the place of a killed one is a program of its own.
    multiprocessing.get_context("forkserver").set_forkserver_preload([_LIFELINE, needed])
    with starting_children():
        if _IS_KNOWN_VERSION and _has_one_thread():
            _start_by_forking(needed)
        else:
            forkserver.ensure_running()


def end_stopped_fork_server() -> None:
    """Kill the fork server where something halted it: its word would be waited for without end. Another replaces it."""
    pid: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None and is_stopped(pid):
        logger.warning("the process that starts decode processes was stopped from outside; it is killed")
        kill_and_wait([pid])


def _has_one_thread() -> bool:
    """Tell whether this process can be forked: whatever lock another thread holds, its copy holds for ever."""
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return len([name for name in names if name != _SAFE_THREAD]) == 1


def _start_by_forking(needed: str) -> None:
    if needed == DATA_LOADER:
        # This process needs it, too; what else decoders need, they load while this one goes on.
        importlib.import_module(needed)
    if not _has_one_thread():
        # The import has started threads: not the torch that is known here, so rather the long way.
        forkserver.ensure_running()
        return
    start_program = util.spawnv_passfds
    util.spawnv_passfds = functools.partial(_fork, needed)  # all else of starting a fork server stays multiprocessing's
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = start_program


def _fork(needed: str, _program: object, _arguments: object, descriptors: Sequence[int]) -> int:
    parent_pid = os.getpid()
    # What a handler raises among the functions that run at a fork is printed and lost.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    try:
        die_with_parent(parent_pid)
        leave_signals_to_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _close_all_but({*_STANDARD_DESCRIPTORS, *descriptors})
        importlib.import_module(needed)
        forkserver.main(descriptors[0], descriptors[1], [])
    except Exception:
        # The parent only learns that it ended; the reason is for who has to repair the installation.
        sys.excepthook(*sys.exc_info())
    finally:
        # Nothing of the parent's, no clean-up above all, may run here.
        os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    """Close what was inherited: a lock, or the end of a pipe whose other end waits for it to close."""
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    for descriptor in range(highest + 1):
        if descriptor not in kept:
            os.closerange(descriptor, descriptor + 1)
