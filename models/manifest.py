"""The manifest of a built model: the files in the cache that belong together, and the key of what built them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from models.artifact import ID_DIGITS, Artifact
from models.errors import UsageError, output_errors
from models.system.atomic_file import write_atomically
from models.system.cpu_kind import this_cpu
from models.system.installed import installed_version
from models.system.outside_text import is_path_part
from models.system.user_cache import user_cache

# What decides the bytes of a model built by its name alone: a change of any of these files builds the model again. The
# versions of torch, onnx and onnxruntime are not among them: the canonical form of graphs makes up for the exporter's,
# and only models without committed calibration depend on onnxruntime's.
PACKAGE = Path(__file__).parent
BUILDER_FOLDERS = ("networks", "quantization")
_FILE_PATTERN = (
    r"-(?:(?:int8|fp32)-[0-9a-f]{12}\.onnx|torch-(?:[0-9a-f]{12}|random-[0-9]+)\.pt|calibration-[0-9a-f]{12}\.json)"
)
# The manifest of such a model would have the name of another model's calibration.
_LIKE_A_CALIBRATION = re.compile(r".+-calibration-[0-9a-f]{12}")
BUILDER_FILES = ("artifact.py", "build_steps.py", "onnx_runtime.py", "samples.py", "spec.py", "zoo.py")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A built model, by file names in the cache folder.

    `recipe` is the `recipe_key` of a model built by its name alone; empty for a model that a user built with
    `label-models`. `int8` and `fp32` are artifacts, `calibration` is a table of figures, `state` is torch's state dict
    (empty for imported ONNX).
    """

    recipe: str
    int8: str
    fp32: str
    state: str
    calibration: str

    @property
    def files(self) -> set[str]:
        """The names of all files of the model."""
        return {name for name in (self.int8, self.fp32, self.state, self.calibration) if name}


def cache_folder() -> Path:
    """The folder of built models: below $XDG_CACHE_HOME, or where this system keeps caches. Raises UsageError for a
    user without a home folder."""
    return user_cache() / "models"


def checked_name(model: str) -> str:
    """The name itself. Raises UsageError where it could not be part of a file's name or `label-dir -m` would take it
    for a file."""
    if not is_path_part(model) or _LIKE_A_CALIBRATION.fullmatch(model):
        raise UsageError(
            f"{model!r} is no name for a model: use up to 100 letters, digits, '.', '_' and '-', "
            "and begin with a letter or digit"
        )
    if model.lower().endswith(".onnx"):
        raise UsageError(f"{model!r} is no name for a model: label-dir would take it for a file; leave out .onnx")
    return model


def is_file_of(model: str, file: str) -> bool:
    """Tell whether a file of this name belongs to the model, and not to another one whose name begins alike."""
    return re.fullmatch(re.escape(model) + _FILE_PATTERN, file) is not None


def manifest_path(model: str) -> Path:
    """The path of a model's manifest."""
    return cache_folder() / f"{model}.json"


def read_manifest(model: str) -> Manifest | None:
    """The manifest of a model in the cache, or None where it is missing or damaged."""
    try:
        manifest = Manifest(**json.loads(manifest_path(model).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError):
        return None
    values = asdict(manifest).values()
    if not all(isinstance(value, str) for value in values) or not (manifest.int8 and manifest.fp32):
        return None
    # Files that a manifest names are read, and removed when the model is replaced.
    return manifest if all(is_file_of(model, name) for name in manifest.files) else None


def write_manifest(model: str, manifest: Manifest) -> None:
    """Replace a model's manifest, then remove the files that only the old one lists. Raises OutputError."""
    old = read_manifest(model)
    path = manifest_path(model)
    with output_errors(path):
        write_atomically(path, json.dumps(asdict(manifest), indent=1).encode())
    for name in (old.files if old else set()) - manifest.files:
        (cache_folder() / name).unlink(missing_ok=True)


def built_models() -> list[str]:
    """The names of the models in the cache, sorted."""
    names = [path.stem for path in cache_folder().glob("*.json") if is_path_part(path.stem)]
    return sorted(name for name in names if read_manifest(name) is not None)


def file_name(model: str, precision: str, sha256: str) -> str:
    """The name of an artifact's file in the cache. It contains the digest that the content must have."""
    return f"{model}-{precision}-{sha256[:ID_DIGITS]}.onnx"


def state_file_name(model: str, weights_sha256: str) -> str:
    """The name of the file of a model's state dict."""
    return f"{model}-torch-{weights_sha256[:ID_DIGITS].replace(' ', '-')}.pt"


def torch_int8_name(fp32: Artifact, engine: str) -> str:
    """The name of the file of the state dict that one of torch's int8 engines runs for an fp32 artifact."""
    return f"{fp32.name}-{engine}-{fp32.sha256[:ID_DIGITS]}.pt"


def certificate_path(artifact: Artifact) -> Path:
    """The path of an int8 artifact's certificate for this kind of CPU and this version of onnxruntime."""
    version = installed_version("onnxruntime")
    name = f"{artifact.name}-{artifact.sha256[:ID_DIGITS]}-{this_cpu().key}-onnxruntime-{version}.json"
    return cache_folder() / "certificates" / name


def recipe_key(model: str, package: Path = PACKAGE) -> str:
    """The sha256 of the code and figures in `package` that decide the bytes of a model built by its name alone."""
    files = [path for folder in BUILDER_FOLDERS for path in sorted((package / folder).rglob("*.py"))]
    files += [package / name for name in (*BUILDER_FILES, "data/imagenet.txt")]
    calibration = package / "data" / f"{model}.calibration.json"
    digest = hashlib.sha256()
    for path in [*files, calibration] if calibration.is_file() else files:
        digest.update(f"{path.relative_to(package)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()
