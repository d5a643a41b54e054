"""Run a function in a process of its own, so that its imports and its memory end with the process."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Concatenate, ParamSpec, TypeVar

from models.errors import LabelDirError, ModelError, WorkerEndedError
from models.system.watchdog import TICK_S, Watchdog
from models.system.worker import WORKER_GONE, Worker, WorkerOptions, start_worker

P = ParamSpec("P")
Result = TypeVar("Result")
Notify = Callable[[str], None]

# A process that has answered takes its libraries apart, which must not take for ever.
_END_PATIENCE_S = 5.0


def isolated_call(
    function: Callable[Concatenate[Notify, P], Result], notify: Notify, *args: P.args, **kwargs: P.kwargs
) -> Result:
    """`function(notify, *args, **kwargs)` in a process of its own; notices and the result come back over a pipe.

    The process ends with this one, and at once when this one no longer waits for it.

    Raises what the function raises, if it is a LabelDirError; WorkerEndedError where the process ends without an
    answer, ModelError for any other error.
    """
    worker = start_worker(_answer, WorkerOptions(has_own_threads=True), pickle.dumps((function, args, kwargs)))
    patience_s = 0.0
    try:
        while (message := _next_message(worker)) is not None and message[0] == "notice":
            notify(message[1])
        patience_s = _END_PATIENCE_S
    finally:
        cause = worker.end(patience_s)
    if message is None:
        raise WorkerEndedError(f"the process that prepared the model ended before its work was done: {cause}")
    kind, payload = message
    if kind == "error":
        raise payload
    return payload  # type: ignore[no-any-return]


def _next_message(worker: Worker) -> tuple[str, Any] | None:
    """Wait for a message, None where the worker has ended."""
    watchdog = Watchdog()
    try:
        while not worker.connection.poll(TICK_S):
            for _, reason in watchdog.inspect([(worker.pid, None)]).values():
                worker.kill(reason)
        message: tuple[str, Any] = worker.connection.recv()
    except WORKER_GONE:
        return None
    return message


def _answer(connection: Connection, call: bytes) -> None:
    def notify(text: str) -> None:
        connection.send(("notice", text))

    try:
        function, args, kwargs = pickle.loads(call)
        connection.send(("result", function(notify, *args, **kwargs)))
    except LabelDirError as error:
        connection.send(("error", error))
    except Exception as error:
        # One sentence for a log; a command that ends with a bug shows the notes.
        bug = ModelError(f"preparing the model failed: {type(error).__name__}: {' '.join(str(error).split())}")
        bug.add_note(traceback.format_exc())
        connection.send(("error", bug))
