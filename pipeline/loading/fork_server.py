"""Starts the fork server, from which decode workers are forked: thread-free, with all that they need loaded.

A process of one thread forks the server from itself, so that one import, and one copy of its memory, serves both. A
process with threads cannot do that safely, and starts the server as a program of its own, as multiprocessing does.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerProcess

from models.system.installed import require_packages
from models.system.process_state import has_one_thread, is_alive, is_suspended, kill_and_wait, open_descriptors
from models.system.worker import close_descriptors, enter_child, starting_children
from pipeline.loading.loader_kind import LoaderKind

logger = logging.getLogger(__name__)

# Modules whose import loads what decode workers need.
_PRELOADS = {LoaderKind.PIPES: "pipeline.loading.preload", LoaderKind.TORCH: "pipeline.loading.preload_torch"}
_PRELOAD_PARENT_DEATH = "pipeline.loading.preload_parent_death"
FORK_SERVER_NAME = "fork-server"
# Later versions of Python pass a key besides the two descriptors, and start the server in another way.
_IS_KNOWN_VERSION = sys.version_info < (3, 14)


def start_fork_server(kind: LoaderKind) -> None:
    """Start the fork server, unless it runs already, with what the workers of this loader need.

    Raises:
        OSError: the system does not let it start.
        InputMissingError: the loader needs torch, which is not installed.
    """
    if kind is LoaderKind.TORCH:
        require_packages("--loader torch", "torch")
    preload = _PRELOADS[kind]
    # Also where the server is forked: the server that replaces a killed one is a program of its own.
    multiprocessing.get_context("forkserver").set_forkserver_preload([_PRELOAD_PARENT_DEATH, preload])
    with starting_children():
        if _IS_KNOWN_VERSION and has_one_thread():
            _start_by_forking(preload, is_needed_here=kind is LoaderKind.TORCH)
        else:
            forkserver.ensure_running()


def start_fork_server_early(kind: LoaderKind) -> None:
    """Start the fork server before this process starts threads; where that fails, it is started and reported later."""
    with contextlib.suppress(OSError):
        start_fork_server(kind)


@contextlib.contextmanager
def garbage_collector_paused() -> Iterator[None]:
    """Import something big inside the block: imported objects stay, so to collect meanwhile would cost a tenth more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def forked_processes() -> list[ForkServerProcess]:
    """Return the living processes that the fork server has started: the decode workers, and nothing else."""
    return [process for process in multiprocessing.active_children() if isinstance(process, ForkServerProcess)]


def has_fork_server_died() -> bool:
    """Tell whether the fork server was started and has ended; the processes that it had started end with it."""
    pid = _fork_server_pid()
    return pid is not None and not is_alive(pid)


def kill_suspended_fork_server() -> None:
    """Kill the fork server if it has been suspended: its answers would be waited for without end.

    The next worker that is started starts another fork server.
    """
    pid = _fork_server_pid()
    if pid is not None and is_suspended(pid):
        logger.warning("the fork server was suspended from outside (SIGSTOP); it is killed")
        kill_and_wait([pid])


def _fork_server_pid() -> int | None:
    pid: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
    return pid


def _start_by_forking(preload: str, is_needed_here: bool) -> None:
    if is_needed_here:
        # torch's DataLoader runs in this process, which needs the same modules; other modules load in the server alone,
        # while this process works.
        importlib.import_module(preload)
    if not has_one_thread():
        # The import has started threads, as another version of torch may, so forking is no longer safe.
        forkserver.ensure_running()
        return
    start_program = util.spawnv_passfds
    util.spawnv_passfds = functools.partial(_fork, preload)  # multiprocessing does all the rest
    try:
        forkserver.ensure_running()
    finally:
        util.spawnv_passfds = start_program


def _fork(preload: str, _program: object, _arguments: object, descriptors: Sequence[int]) -> int:
    # An exception that a signal handler raises during a fork is printed and then ignored.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    try:
        enter_child(name=FORK_SERVER_NAME)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        close_descriptors(open_descriptors() - {*descriptors})
        importlib.import_module(preload)
        # A parent that ends between its connection and its order leaves nothing to fork for.
        with contextlib.suppress(EOFError):
            forkserver.main(descriptors[0], descriptors[1], [])
    except Exception:
        # The parent learns only that the server ended; the traceback helps to repair the installation.
        sys.excepthook(*sys.exc_info())
    finally:
        # The parent's code above this call, its clean-up above all, must not run here.
        os._exit(0)
