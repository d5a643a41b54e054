"""What the cache holds of a model: which files belong together, and by what they were built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path

import platformdirs

from models.artifact import ID_DIGITS, Artifact
from models.errors import output_errors
from models.system.atomic_file import write_atomically
from models.system.cpu_kind import this_cpu

# What decides the bytes of a model built by its name alone: an edit to any file in these builds the model anew.
BUILDER_FOLDERS = ("networks", "quantization")
BUILDER_FILES = ("artifact.py", "build_steps.py", "samples.py", "spec.py", "zoo.py")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A built model, by file names in the cache folder.

    `recipe` is the key of what built it by its name alone, and empty for what a person built by `label-models`.
    `int8` and `fp32` are artifacts, `calibration` is figures, `state` torch's state dict (empty for imported ONNX).
    """

    recipe: str
    int8: str
    fp32: str
    state: str
    calibration: str

    @property
    def files(self) -> set[str]:
        """All files of the model."""
        return {name for name in (self.int8, self.fp32, self.state, self.calibration) if name}


def cache_folder() -> Path:
    """The folder of built models: below $XDG_CACHE_HOME, or where this system keeps caches."""
    return platformdirs.user_cache_path("label-dir") / "models"


def manifest_path(model: str) -> Path:
    """Where the receipt of a model lies."""
    return cache_folder() / f"{model}.json"


def read_manifest(model: str) -> Manifest | None:
    """The receipt of a model in the cache, or None where there is none that can be read."""
    try:
        return Manifest(**json.loads(manifest_path(model).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return None


def write_manifest(model: str, receipt: Manifest) -> None:
    """Make these the model's files, and remove those of the build before. Raises OutputError."""
    old = read_manifest(model)
    path = manifest_path(model)
    with output_errors(path):
        write_atomically(path, json.dumps(asdict(receipt), indent=1).encode())
    for name in (old.files if old else set()) - receipt.files:
        (cache_folder() / name).unlink(missing_ok=True)


def built_models() -> list[str]:
    """The names of the models in the cache, sorted."""
    return sorted(path.stem for path in cache_folder().glob("*.json") if read_manifest(path.stem) is not None)


def file_name(model: str, precision: str, sha256: str) -> str:
    """The name of an artifact in the cache; it holds the digest that the content must have."""
    return f"{model}-{precision}-{sha256[:ID_DIGITS]}.onnx"


def state_file_name(model: str, weights_sha256: str) -> str:
    """The name of torch's state dict of a model."""
    return f"{model}-torch-{weights_sha256[:ID_DIGITS].replace(' ', '-')}.pt"


def torch_int8_name(fp32: Artifact, engine: str) -> str:
    """The name of the quantized state dict of an fp32 artifact's network for one of torch's int8 engines."""
    return f"{fp32.name}-{engine}-{fp32.sha256[:ID_DIGITS]}.pt"


def certificate_path(artifact: Artifact) -> Path:
    """Where the certificate of an int8 artifact for this kind of CPU and this onnxruntime lies."""
    version = metadata.version("onnxruntime")
    name = f"{artifact.name}-{artifact.sha256[:ID_DIGITS]}-{this_cpu().key}-onnxruntime-{version}.json"
    return cache_folder() / "certificates" / name


def recipe_key(model: str) -> str:
    """A digest of the code and the figures that a model is built with by its name alone."""
    models = Path(str(resources.files("models")))
    files = [path for folder in BUILDER_FOLDERS for path in sorted((models / folder).glob("*.py"))]
    files += [models / name for name in BUILDER_FILES]
    files += [models / "data" / "imagenet.txt", models / "data" / f"{model}.calibration.json"]
    contents = (file.read_bytes() for file in files if file.is_file())
    return hashlib.sha256(b"\0".join(contents)).hexdigest()
