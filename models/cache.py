"""Where built models lie: the cache folder, its receipts, and building what is missing, damaged or out of date.

A model's files carry their digest in their names and its receipt says which belong together, so whoever reads while
another process builds sees the old model or the new one. Unneeded files are removed by the build that replaces them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import platformdirs
from filelock import FileLock

from models.artifact import ID_DIGITS, Artifact, read_artifact
from models.child import run_in_child
from models.durable import write_durably
from models.errors import ModelError, ModelInputError, ModelOutputError

BUILD_SECONDS_USUAL = 20
# What decides a zoo model's bytes: an edit to any of these makes the next run build anew.
BUILDER_FILES = (
    *("artifact.py", "build.py", "calibration.py", "efficientnet_lite.py", "export.py", "graph.py", "head.py"),
    *("layers.py", "quantize.py", "spec.py", "weights.py", "zoo.py"),
)

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which files are a built model: `recipe` tells what built it, `int8` and `fp32` are file names in the cache."""

    recipe: str
    int8: str
    fp32: str


def cache_folder() -> Path:
    """The folder of built models: below $XDG_CACHE_HOME, or where this system keeps caches."""
    return platformdirs.user_cache_path("label-dir") / "models"


def ensure_artifact(model: str, notify: Notify) -> Artifact:
    """The artifact of a zoo name or of a path to an .onnx file; built first where it is not there as it should be.

    `notify` gets a sentence whenever something takes time or was not as expected. Raises ModelError.
    """
    if model.endswith(".onnx") or "/" in model:
        return read_artifact(Path(model))
    found = _built(model)
    if isinstance(found, Artifact):
        return found
    folder = _writable(cache_folder())
    with FileLock(folder / f"{model}.lock"):
        found = _built(model)
        if isinstance(found, Artifact):
            return found
        _build(model, found, notify)
    found = _built(model)
    if isinstance(found, Artifact):
        return found
    raise ModelError(f"the model {model} was built but cannot be read: {found}")


def _built(model: str) -> Artifact | str:
    """The built model, or the reason there is none."""
    receipt = read_receipt(model)
    if receipt is None:
        return "is not built yet"
    if receipt.recipe != recipe_key(model):
        return "was built by another version of label-dir"
    try:
        artifact = read_artifact(cache_folder() / receipt.int8)
    except ModelInputError:
        return "is damaged in the cache"
    return artifact if artifact.path.name == file_name(model, "int8", artifact.sha256) else "is damaged in the cache"


def read_receipt(model: str) -> Receipt | None:
    """The receipt of a model in the cache, or None where there is none that can be read."""
    try:
        return Receipt(**json.loads((cache_folder() / f"{model}.json").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def file_name(model: str, precision: str, sha256: str) -> str:
    """The name of an artifact in the cache; it holds the digest that the content must have."""
    return f"{model}-{precision}-{sha256[:ID_DIGITS]}.onnx"


def recipe_key(model: str) -> str:
    """A digest of the code and the figures that a zoo model is built with; `model` names its calibration table."""
    folder = resources.files("models")
    files = [folder / name for name in BUILDER_FILES]
    files += [folder / "data" / "imagenet.txt", folder / "data" / f"{model}.calibration.json"]
    contents = (file.read_bytes() for file in files if file.is_file())
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


def _build(model: str, reason: str, notify: Notify) -> None:
    notify(f"model {model} {reason}: building it, once, in about {BUILD_SECONDS_USUAL} s")
    started = time.monotonic()
    old = read_receipt(model)
    receipt = run_in_child(_build_files, notify, model, cache_folder())
    write_durably(cache_folder() / f"{model}.json", json.dumps(asdict(receipt)).encode())
    if old is not None:
        for name in {old.int8, old.fp32} - {receipt.int8, receipt.fp32}:
            (cache_folder() / name).unlink(missing_ok=True)
    notify(f"model {model} built in {time.monotonic() - started:.1f} s")


def _build_files(notify: Notify, model: str, folder: Path) -> Receipt:
    """Runs in a child: torch and onnx are imported here and nowhere else in a run."""
    from models.build import build_zoo_model, digest

    names = {}
    for precision, content in build_zoo_model(model).items():
        names[precision] = file_name(model, precision, digest(content))
        write_durably(folder / names[precision], content)
    return Receipt(recipe_key(model), names["int8"], names["fp32"])


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelOutputError(f"cannot write the model cache {folder}: {error.strerror}") from error
    return folder
