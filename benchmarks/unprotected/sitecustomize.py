"""Takes the protections away, for `benchmarks/protections.py` alone: Python imports this file at its start."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def _replace(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Replace an attribute of `owner`; a name that no longer exists fails, so that no protection stays by mistake."""
    getattr(owner, name)
    setattr(owner, name, replacement)


def _read(module: ModuleType) -> None:
    """Read a file by its name, once and unchecked."""

    def read_file(path: str, _limits: Any) -> Any:
        return module.FileBytes(Path(path).read_bytes(), os.stat(path).st_mtime_ns // 1000)

    _replace(module, "read_file", read_file)


def _decoder(module: ModuleType) -> None:
    """No photo is written to the board while it is decoded."""

    def decode_file(self: Any, _slot: int, _position: int, ref: Any, pixels: Any) -> Any:
        from pipeline.decoding.decode import decode_found

        return decode_found(self._reader.read(ref), self._rules, pixels)

    _replace(module.DecodeDataset, "_decode_file", decode_file)


def _child(module: ModuleType) -> None:
    """No child has a bound of memory, or dies with its parent."""
    _replace(module, "limit_memory", lambda further_bytes: None)
    _replace(module, "die_with_parent", lambda parent_pid: None)


def _watchdog(module: ModuleType) -> None:
    _replace(module.Watchdog, "inspect", lambda self, busy_since_s: {})


def _monitor(module: ModuleType) -> None:
    _replace(module.WorkerMonitor, "has_dead_worker", lambda self: False)


def _atomic_file(module: ModuleType) -> None:
    os.fsync = lambda fd: None


_UNPROTECT: dict[str, Callable[[ModuleType], None]] = {
    "pipeline.sources.read_file": _read,
    "pipeline.loading.decode_worker": _decoder,
    "pipeline.loading.worker_monitor": _monitor,
    "models.system.worker": _child,
    "models.system.watchdog": _watchdog,
    "models.system.atomic_file": _atomic_file,
}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _UNPROTECT:
            return None
        unprotect = _UNPROTECT.pop(name)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_unprotect(module: ModuleType) -> None:
                load(module)
                unprotect(module)

            spec.loader.exec_module = load_and_unprotect  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Finder())
