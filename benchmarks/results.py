"""The files below benchmarks/results/: what was measured, when, on which CPU, with which versions.

`LABEL_DIR_RESULTS` names another folder, for a trial whose figures are not to be kept.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from models.system.cpu_kind import this_cpu
from pipeline.system.cpus import this_machine

_PACKAGES = ("label-dir", "onnxruntime", "torch", "numpy", "pillow", "simplejpeg", "cykooz-resizer", "pyarrow")


def results_folder() -> Path:
    """The folder of the result files."""
    return Path(os.environ.get("LABEL_DIR_RESULTS", Path(__file__).with_name("results")))


def commit() -> str:
    """The commit of this checkout, "" where there is none."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def conditions() -> dict[str, Any]:
    """Date, CPU, cores, commit and versions, as they are now."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": this_cpu().name,
        "cores": len(this_machine().cpus),
        "commit": commit(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def write_result(name: str, figures: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> Path:
    """Write figures, and texts of the manual by their marks, with the conditions under which they were measured; return
    the file, NAME.json."""
    path = results_folder() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"name": name, **conditions(), "figures": figures, **({"texts": texts} if texts else {})}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def read_result(path: Path) -> dict[str, Any]:
    """The content of a result file; empty where there is none, or one of another form, as peers.py writes."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
