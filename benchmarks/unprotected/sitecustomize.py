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


def _read(module: ModuleType) -> None:
    """Read a file as anybody would: by its name, once, believing what was found."""

    def read_file(path: str, _limits: Any) -> Any:
        return module.FileBytes(Path(path).read_bytes(), os.stat(path).st_mtime_ns // 1000)

    module.__dict__["read_file"] = read_file


def _decoder(module: ModuleType) -> None:
    """Tell nobody which photo a process is at; no bound of memory, no parent to die with."""
    module.DecodeDataset._decode = lambda self, slot, position, ref, pixels: module.decode_file(
        ref, self._rules, pixels
    )
    module.__dict__["_limit_memory"] = lambda further_bytes: None
    module.__dict__["die_with_parent"] = lambda parent_pid: None


def _watch(module: ModuleType) -> None:
    module.WorkerMonitor.look = lambda self: []
    module.WorkerMonitor.is_someone_gone = lambda self: False


def _pool(module: ModuleType) -> None:
    module.Pool._look_after_processes = lambda self: None


def _atomic_file(module: ModuleType) -> None:
    os.fsync = lambda fd: None


_UNPROTECT: dict[str, Callable[[ModuleType], None]] = {
    "pipeline.sources.read_file": _read,
    "pipeline.loading.decode_worker": _decoder,
    "pipeline.loading.worker_monitor": _watch,
    "pipeline.inference.pool": _pool,
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
