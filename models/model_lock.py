"""The lock under which the files of a model are replaced, and what a cache that cannot be written leaves undone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout

from models.errors import OutputError, output_errors
from models.manifest import cache_folder, checked_name
from models.system.isolated_call import Notify

_SILENT_WAIT_S = 1.0


@contextlib.contextmanager
def model_lock(model: str, notify: Notify, purpose: str = "") -> Iterator[None]:
    """Hold the lock under which a model's files, or its files for a `purpose`, are replaced; `notify` gets a sentence
    where another process holds the lock for longer than a second.

    Raises UsageError for an impossible name, OutputError where the folder or file of the lock cannot be made.
    """
    checked_name(model)
    folder = cache_folder()
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model}{purpose}.lock"
    lock = FileLock(path)
    with output_errors(path):
        try:
            lock.acquire(timeout=_SILENT_WAIT_S)
        except Timeout:
            notify(f"waiting for another process that prepares the model {model} and holds {path}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def lock_if_writable(model: str, notify: Notify, purpose: str) -> Iterator[None]:
    """Hold a model's lock; without one in a cache that cannot be written, where a measurement is not kept either."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OutputError):
            stack.enter_context(model_lock(model, notify, purpose))
        yield


@contextlib.contextmanager
def kept_if_writable(notify: Notify) -> Iterator[None]:
    """Run a block that keeps a measurement; where the cache cannot be written, `notify` gets a sentence instead."""
    try:
        yield
    except OutputError as error:
        notify(f"the measurement is not kept, and the next run measures again: {error}")
