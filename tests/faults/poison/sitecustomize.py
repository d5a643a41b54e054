"""Photos that harm the worker that has them, in processes of the tests: Python imports this file at its start.

Wraps the decoder and the classifier when they are imported. The deed of a photo is in its text chunk (decoder) or in
its colour (classifier). `POISON_SLOW_S` makes every photo take that long to decode. Slow and waiting photos go on at
once when the test makes a file `released` in `POISON_FOLDER`, where file `decoded` has a byte for each decoded photo.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

MARK = b"POISON:"
DEADLY_COLOURS = {
    (1, 2, 3): "abort",
    (1, 2, 4): "segfault",
    (1, 2, 6): "SIGKILL in an answer",
    (1, 2, 7): "SIGSTOP in an answer",
}
# multiprocessing writes a longer message in two pieces.
LONGEST_WHOLE_MESSAGE_BYTES = 16384


_FOLDER = os.environ.get("POISON_FOLDER", "")


def _pause(longest_s: float) -> None:
    until_s = time.monotonic() + longest_s
    while (left_s := until_s - time.monotonic()) > 0 and not os.path.exists(f"{_FOLDER}/released"):
        time.sleep(min(left_s, 0.02))


def _count() -> None:
    if _FOLDER:
        with open(f"{_FOLDER}/decoded", "ab", buffering=0) as decoded:
            decoded.write(b".")


def _break_off(number: signal.Signals) -> None:
    """Kill or suspend this process in the middle of its next long message."""
    connection: Any = Connection
    send = connection._send

    def broken(self: Any, content: bytes, *arguments: Any) -> None:
        if len(content) > LONGEST_WHOLE_MESSAGE_BYTES:
            send(self, content[: len(content) // 2], *arguments)
            os.kill(os.getpid(), number)
        send(self, content, *arguments)

    connection._send = broken


DEEDS: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "hang": lambda: time.sleep(1e6),
    "wait": lambda: _pause(1e6),
    "SIGKILL in an answer": lambda: _break_off(signal.SIGKILL),
    "SIGSTOP in an answer": lambda: _break_off(signal.SIGSTOP),
    "eat 10 GB": lambda: [importlib.import_module("numpy").empty(1 << 30, "uint8") for _ in range(10)],
}


def _poison_decoder(module: ModuleType) -> None:
    decode_bytes = module.decode_bytes
    slow_s = float(os.environ.get("POISON_SLOW_S", "0"))

    def poisoned(content: bytes, *arguments: Any) -> Any:
        _pause(slow_s)
        at = content.find(MARK)
        if at >= 0:
            DEEDS[content[at + len(MARK) :].split(b";")[0].decode()]()
        decoded = decode_bytes(content, *arguments)
        _count()
        return decoded

    module.__dict__["decode_bytes"] = poisoned


def _poison_classifier(module: ModuleType) -> None:
    classify = module.Classifier.classify

    def poisoned(self: Any, pixels: Any) -> Any:
        for colour in map(tuple, pixels[:, 0, 0].tolist()):
            DEEDS.get(DEADLY_COLOURS.get(colour, ""), lambda: None)()
        return classify(self, pixels)

    module.Classifier.classify = poisoned


_POISONS = {"pipeline.decoding.decode": _poison_decoder, "models.classifier": _poison_classifier}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _POISONS:
            return None
        poison = _POISONS.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_poison(module: ModuleType) -> None:
                load(module)
                poison(module)

            spec.loader.exec_module = load_and_poison  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
