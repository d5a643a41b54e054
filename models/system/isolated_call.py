"""Run a function in a process of its own, so that what it imports and allocates ends with it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Concatenate, ParamSpec, TypeVar

from models.errors import ModelError
from models.system.parent_death import die_with_parent

P = ParamSpec("P")
Result = TypeVar("Result")
Notify = Callable[[str], None]


def isolated_call(
    function: Callable[Concatenate[Notify, P], Result], notify: Notify, *args: P.args, **kwargs: P.kwargs
) -> Result:
    """`function(notify, *args, **kwargs)` in a spawned process; notices and the result come back over a pipe.

    The process ends with this one, and at once when this one no longer waits for it.

    Raises what the function raises, if it is a ModelError; ModelError for any other end of the process.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    # In a packet that is opened later: what the function imports takes seconds, in which this process may be killed.
    call = pickle.dumps((function, args, kwargs))
    process = context.Process(target=_child, args=(sender, os.getpid(), call))
    process.start()
    sender.close()
    has_answered = False
    try:
        while True:
            kind, payload = receiver.recv()
            has_answered = kind != "notice"
            if kind == "notice":
                notify(payload)
            elif kind == "error":
                raise payload
            else:
                return payload  # type: ignore[no-any-return]
    except EOFError:
        process.join()
        raise ModelError(f"the process that prepared the model ended by itself (exit {process.exitcode})") from None
    finally:
        receiver.close()
        if has_answered:
            process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()


def _child(sender: Connection, parent_pid: int, call: bytes) -> None:
    die_with_parent(parent_pid)
    # Ctrl-C reaches the whole terminal's group; what it means is the parent's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def notify(text: str) -> None:
        sender.send(("notice", text))

    try:
        function, arguments, options = pickle.loads(call)
        sender.send(("result", function(notify, *arguments, **options)))
    except ModelError as error:
        sender.send(("error", error))
    except Exception:
        sender.send(("error", ModelError(f"preparing the model failed:\n{traceback.format_exc()}")))
