"""One supervised worker: a child process at the end of a pipe, from its start to its end with a named cause.

Classifier workers, decode workers, the process map and isolated calls all are such workers. A `Watchdog` finds those
that will never answer. torch starts the workers of its own DataLoader; they go through `enter_child` as well.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Literal, TypeVarTuple

from models.system.parent_death import die_with_parent
from models.system.process_state import (
    cause_of_end,
    has_one_thread,
    kill_and_wait,
    mapped_bytes,
    name_process,
    open_descriptors,
)

Args = TypeVarTuple("Args")

# What the connection of a worker raises that has ended, or has read nothing for 5 s.
WORKER_GONE = (EOFError, OSError)
# An idle worker that does not read within this time has been suspended (SIGSTOP).
_SEND_TIMEOUT_S = 5
_STARTS = 3
_JOIN_S = 5.0
# -P keeps the working directory out of a child's imports.
_SAFE_PATH = {"PYTHONSAFEPATH": "1"}
# A child's helper threads come from its engine alone.
_HELD_BACK = {signal.SIGTERM, signal.SIGHUP}
_STANDARD_DESCRIPTORS = {0, 1, 2}
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_forking_pid = 0
# Two threads that start children at once would restore each other's environment.
_starting = threading.RLock()


def _note_forking_pid() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


# A fork server imports this module before it forks, so each process that it forks knows its parent.
os.register_at_fork(before=_note_forking_pid)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker is started.

    `method` is "spawn" for a program of its own, "forkserver" for a copy of the fork server, "fork" for a copy of this
    process, which shares its imports; where this process has threads, "fork" is "spawn". ps and top show the `name`.
    `memory_bytes` bounds the memory that the worker may map beyond that of its start. A worker that `has_own_threads`
    may have children, too.
    """

    method: Literal["spawn", "forkserver", "fork"] = "spawn"
    name: str | None = None
    memory_bytes: int | None = None
    has_own_threads: bool = False


@dataclass(slots=True)
class Worker:
    """A running child process and this process's end of its pipe, whose methods raise WORKER_GONE."""

    process: BaseProcess
    connection: Connection
    killed_because: str = ""

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self.process.pid is not None
        return self.process.pid

    def kill(self, because: str = "") -> None:
        """End the process at once and return when it is gone; `because` is the cause that `end` then names."""
        self.killed_because = because
        kill_and_wait([self.pid])

    def end(self, patience_s: float = 0.0) -> str:
        """End the process, by force where it has not ended by itself within `patience_s`; return the cause in words."""
        self.connection.close()
        if patience_s:
            self.process.join(patience_s)
        kill_and_wait([self.pid])
        # The fork server, which reports the exit code, may itself be suspended.
        self.process.join(_JOIN_S)
        exit_code = self.process.exitcode
        if exit_code is not None:
            self.process.close()
        return self.killed_because or cause_of_end(exit_code)


def start_worker(function: Callable[[Connection, *Args], None], options: WorkerOptions, *args: *Args) -> Worker:
    """Start a process that runs `function(connection, *args)`, `connection` being its end of a pipe.

    `function` is of a module's top level. The worker ends with this process, however this process ends.

    Raises:
        OSError: the system does not let it start.
    """
    for _ in range(_STARTS):
        connection, childs_end = multiprocessing.Pipe()
        # A socket object closes its descriptor, so it gets a copy.
        with socket.socket(fileno=os.dup(connection.fileno())) as pipe:
            pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0))
        is_forked = options.method == "fork" and has_one_thread()
        method = "spawn" if options.method == "fork" and not is_forked else options.method
        # Listed before multiprocessing opens the pipe by which this process sees the child end.
        inherited = open_descriptors() - {childs_end.fileno()} if is_forked else set()
        process = multiprocessing.get_context(method).Process(  # type: ignore[attr-defined]  # typed for single methods
            target=_run,
            args=(os.getpid(), inherited, options, function, childs_end, *args),
            name=options.name,
            daemon=not options.has_own_threads,
        )
        try:
            with starting_children(options.has_own_threads), _signals_held_back(is_forked):
                process.start()
            return Worker(process, connection)
        except BaseException as error:
            connection.close()
            if not isinstance(error, WORKER_GONE):
                raise
            # Processes are short for a moment, or the fork server was killed a moment ago.
            reason = error
        finally:
            childs_end.close()
    raise OSError(f"a process cannot be started: {reason}") from reason


def _run(
    starting_pid: int,
    inherited: set[int],
    options: WorkerOptions,
    function: Callable[[Connection, *Args], None],
    connection: Connection,
    *args: *Args,
) -> None:
    enter_child(starting_pid, options.name)
    if inherited:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        # The objects of the copied process stay as they are: freeing one would close a descriptor of the same number.
        gc.freeze()
        close_descriptors(inherited)
    if options.memory_bytes is not None:
        limit_memory(options.memory_bytes)
    function(connection, *args)


@contextlib.contextmanager
def _signals_held_back(is_needed: bool) -> Iterator[None]:
    """Hold back signals where a fork is to come: an exception that a handler raises in a fork is lost."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK if is_needed else set())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def starting_children(has_own_threads: bool = False) -> Iterator[None]:
    """Start child processes inside the block: they ignore Ctrl-C from their first instruction on.

    A child's libraries use one thread, unless it `has_own_threads`. Ctrl-C is held back meanwhile: it reaches this
    process when the block ends.
    """
    with _starting:
        # The resource tracker lifts the mask when it starts, so it must run before.
        resource_tracker.ensure_running()
        with _child_environment(has_own_threads):
            yield


@contextlib.contextmanager
def _child_environment(has_own_threads: bool) -> Iterator[None]:
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


def enter_child(starting_pid: int = 0, name: str | None = None) -> None:
    """Prepare this process, a child: it ends with its parent and leaves the terminal's signals to its parent.

    The parent is the process that forked this one, or `starting_pid` where this one is a program of its own.
    """
    die_with_parent(_forking_pid or starting_pid)
    if name is not None:
        name_process(name)
    # Ctrl-C reaches all processes of the terminal's group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def close_descriptors(descriptors: set[int]) -> None:
    """Close inherited descriptors but the standard ones: an open lock file stays locked, an open pipe is waited for."""
    for descriptor in descriptors - _STANDARD_DESCRIPTORS:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def limit_memory(further_bytes: int) -> None:
    """Bound this process's address space to what it has now and `further_bytes` more, within its hard limit."""
    limit_bytes = mapped_bytes(os.getpid()) + further_bytes
    _, hard_bytes = resource.getrlimit(resource.RLIMIT_AS)
    if hard_bytes != resource.RLIM_INFINITY:
        # A limit above the hard one is refused.
        limit_bytes = min(limit_bytes, hard_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard_bytes))
