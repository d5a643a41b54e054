"""Which packages an environment lacks: one of a runner has neither torch nor onnx."""

from __future__ import annotations

import importlib.util

from models.errors import InputMissingError


def require_packages(purpose: str, *packages: str) -> None:
    """Return where all packages are installed. Raises InputMissingError, which names the missing ones and the extra
    that has them, as in "teaching needs torch, which is not installed"."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise InputMissingError(
            f"{purpose} needs {' and '.join(missing)}, not installed here: pip install 'label-dir[build]' brings all; "
            "label-dir -m FILE.onnx runs a model that label-models export wrote elsewhere"
        )
