"""How a child process is started, and what each child does first: its signals, its parent's death, its memory."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker

from models.system.parent_death import die_with_parent
from models.system.process_state import mapped_bytes

# -P keeps the working directory out of a child's imports.
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
# A child's helper threads come from its engine alone.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_forking_pid = 0


def _note_forking_pid() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


# A fork server imports this module before it forks, so each process that it forks knows its parent.
os.register_at_fork(before=_note_forking_pid)


def enter_child(starting_pid: int = 0) -> None:
    """Prepare this process, a child: it ends with its parent and leaves the terminal's signals to its parent.

    The parent is the process that forked this one, or `starting_pid` where this one is a program of its own.
    """
    die_with_parent(_forking_pid or starting_pid)
    # Ctrl-C reaches all processes of the terminal's group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def limit_memory(further_bytes: int) -> None:
    """Bound this process's address space to what it has now and `further_bytes` more, within its hard limit."""
    limit_bytes = mapped_bytes(os.getpid()) + further_bytes
    _, hard_bytes = resource.getrlimit(resource.RLIMIT_AS)
    if hard_bytes != resource.RLIM_INFINITY:
        # A limit above the hard one is refused.
        limit_bytes = min(limit_bytes, hard_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard_bytes))


@contextlib.contextmanager
def starting_children(has_own_threads: bool = False) -> Iterator[None]:
    """Start child processes inside the block: they ignore Ctrl-C from their first instruction on.

    A child's libraries use one thread, unless it `has_own_threads`. Ctrl-C is held back meanwhile: it reaches this
    process when the block ends.
    """
    # The resource tracker lifts the mask when it starts, so it must run before.
    resource_tracker.ensure_running()
    # A child that knows this process's main module imports it, and a command line is not for children.
    main = vars(sys.modules["__main__"])
    main_origin: dict[str, object] = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    environment = _SAFE_PATH if has_own_threads else _SAFE_PATH | _ONE_THREAD
    before = {name: os.environ.get(name) for name in environment}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(environment)
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
