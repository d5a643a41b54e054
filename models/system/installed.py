"""Which packages an environment has and lacks: one of a runner has neither torch nor onnx."""

from __future__ import annotations

import importlib.util
from pathlib import Path

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


def installed_version(package: str) -> str | None:
    """The version of a package, None where it is not installed.

    Each run asks for some, so the name of the folder in which the installer keeps what it knows is read first. Only
    where that gives no single answer importlib.metadata is imported, which takes longer than all else of the question.
    """
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        beside = Path(spec.origin).parent.parent.glob(f"{package}-*.dist-info")
        versions = [folder.name.removeprefix(f"{package}-").removesuffix(".dist-info") for folder in beside]
        if len(versions) == 1:
            return versions[0]
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
