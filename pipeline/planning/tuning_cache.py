"""Sizes found by `--tune`, kept per model, engine, CPU and CPU budget; an unreadable file counts as not tuned."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from models.manifest import cache_folder
from models.system.atomic_file import write_atomically
from models.system.cpu_kind import this_cpu
from pipeline.errors import output_errors
from pipeline.planning.plan import Sizes
from pipeline.system.cpus import Machine

# Of the options that set the same sizes.
_LARGEST = 1024


def tuned_path(model_id: str, engine: str, machine: Machine) -> Path:
    """Return the file for the sizes of this model on this machine."""
    key = repr((model_id, engine, this_cpu().key, machine))
    return cache_folder().parent / "tuned" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def read_tuned(path: Path) -> Sizes | None:
    """Return the sizes kept in `path`, None where they are missing or unusable."""
    try:
        sizes = Sizes(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    return sizes if all(type(size) is int and 0 < size <= _LARGEST for size in asdict(sizes).values()) else None


def write_tuned(path: Path, sizes: Sizes) -> None:
    """Keep `sizes` in `path`.

    Raises:
        OutputError: `path` cannot be written.
    """
    with output_errors(path):
        write_atomically(path, json.dumps(asdict(sizes)).encode())
