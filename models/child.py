"""Run a function in a process of its own, so that what it imports and allocates ends with it."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Concatenate, ParamSpec, TypeVar

from models.errors import ModelError

P = ParamSpec("P")
Result = TypeVar("Result")
Notify = Callable[[str], None]


def run_in_child(
    function: Callable[Concatenate[Notify, P], Result], notify: Notify, *args: P.args, **kwargs: P.kwargs
) -> Result:
    """`function(notify, *args, **kwargs)` in a spawned process; notices and the result come back over a pipe.

    Raises what the function raises, if it is a ModelError; ModelError for any other end of the process.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, function, args, kwargs))
    process.start()
    sender.close()
    try:
        while True:
            kind, payload = receiver.recv()
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
        if process.is_alive():
            process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()


def _child(
    sender: Connection, function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    def notify(text: str) -> None:
        sender.send(("notice", text))

    try:
        sender.send(("result", function(notify, *args, **kwargs)))
    except ModelError as error:
        sender.send(("error", error))
    except Exception:
        sender.send(("error", ModelError(f"preparing the model failed:\n{traceback.format_exc()}")))
