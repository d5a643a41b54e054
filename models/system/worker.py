"""One supervised worker: a child process at the end of a pipe, from its start to its end with a named cause.

Classifier workers, decode workers, the process map and isolated calls all are such workers. A `Watchdog` finds those
that will never answer.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, Concatenate, Literal, ParamSpec

from models.system.child_process import enter_child, limit_memory, starting_children
from models.system.process_state import cause_of_end, kill_and_wait

P = ParamSpec("P")

_STARTS = 3
_JOIN_S = 5.0
# An idle worker that does not read within this time has been suspended (SIGSTOP).
_SEND_TIMEOUT_S = 5


class WorkerGoneError(Exception):
    """A worker has ended, or does not read its messages."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker is started.

    `method` is "spawn" for a program of its own, "forkserver" for a copy of the fork server. `memory_bytes` bounds the
    memory that the worker may map beyond that of its start. A worker that `has_own_threads` may have children, too.
    """

    method: Literal["spawn", "forkserver"] = "spawn"
    name: str | None = None
    memory_bytes: int | None = None
    has_own_threads: bool = False


@dataclass(slots=True)
class Worker:
    """A running child process and this process's end of its pipe."""

    process: BaseProcess
    connection: Connection
    _killed_because: str = field(default="")

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self.process.pid is not None
        return self.process.pid

    def send(self, message: object) -> None:
        """Send a message; see `send_bytes`."""
        self.send_bytes(ForkingPickler.dumps(message))

    def send_bytes(self, content: bytes | memoryview) -> None:
        """Send a message that is pickled already.

        Raises:
            WorkerGoneError: the worker has ended, or has read nothing for 5 s.
        """
        try:
            self.connection.send_bytes(content)
        except OSError as error:
            raise WorkerGoneError from error

    def receive(self) -> Any:
        """Return the worker's next message; see `receive_bytes`."""
        return pickle.loads(self.receive_bytes())

    def receive_bytes(self, longest: int | None = None) -> bytes:
        """Return the worker's next message as it was sent, at most `longest` bytes of it.

        Raises:
            WorkerGoneError: the worker has ended.
        """
        try:
            return self.connection.recv_bytes(longest)
        except (EOFError, OSError) as error:
            raise WorkerGoneError from error

    def kill(self, because: str = "") -> None:
        """End the process at once and return when it is gone; `because` is the cause that `end` then names."""
        self._killed_because = self._killed_because or because
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
        return self._killed_because or cause_of_end(exit_code)


def start_worker(
    function: Callable[Concatenate[Connection, P], None],
    options: WorkerOptions,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Worker:
    """Start a process that runs `function(connection, *args, **kwargs)`, `connection` being its end of a pipe.

    `function` is of a module's top level. The worker ends with this process, however this process ends.

    Raises:
        OSError: the system does not let it start.
    """
    call = _PickledLater((function, args, kwargs))
    for _ in range(_STARTS):
        try:
            return _start_once(call, options)
        except (OSError, EOFError) as error:
            # Processes are short for a moment, or the fork server was killed a moment ago.
            reason = error
    raise OSError(f"a process cannot be started: {reason}") from reason


def _start_once(call: _PickledLater, options: WorkerOptions) -> Worker:
    connection, childs_end = multiprocessing.Pipe()
    try:
        _limit_send_time(connection)
        context = multiprocessing.get_context(options.method)
        process = context.Process(  # type: ignore[attr-defined]  # typed for single methods only
            target=_run,
            args=(childs_end, os.getpid(), options.memory_bytes, call),
            name=options.name,
            daemon=not options.has_own_threads,
        )
        with starting_children(options.has_own_threads):
            process.start()
    except BaseException:
        connection.close()
        raise
    finally:
        childs_end.close()
    return Worker(process, connection)


def _limit_send_time(connection: Connection) -> None:
    # A socket object closes its descriptor, so it gets a copy.
    with socket.socket(fileno=os.dup(connection.fileno())) as pipe:
        pipe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_TIMEOUT_S, 0))


class _PickledLater:
    """A call that arrives in the child as bytes.

    Unpickling a call imports its modules, which takes seconds in which the parent may be killed. Before that, the child
    must have asked to die with its parent.
    """

    def __init__(self, call: tuple[Callable[..., None], tuple[Any, ...], dict[str, Any]]) -> None:
        self._call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (bytes(ForkingPickler.dumps(self._call)),)


def _run(connection: Connection, starting_pid: int, memory_bytes: int | None, call: bytes) -> None:
    enter_child(starting_pid)
    function, args, kwargs = pickle.loads(call)
    if memory_bytes is not None:
        limit_memory(memory_bytes)
    function(connection, *args, **kwargs)
