"""The architectures of the zoo and of torchvision by name: preprocessing, torch modules and published weights.

Imports torch and torchvision, so no run that labels photos imports this.
"""

from __future__ import annotations

import contextlib
import difflib
import socket
import sys
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision

from models.errors import InputMissingError, UsageError
from models.networks.checkpoint import StateDict, read_checkpoint
from models.networks.efficientnet_lite import VARIANTS, efficientnet_lite
from models.spec import Crop, Normalisation, Preprocessing
from models.zoo import SPECS, check_digest, find_weights, imagenet_labels

DOWNLOAD_TIMEOUT_S = 20.0
IMAGENET_CLASSES = 1000
# They have a second classifier for training, which `aux_logits=False` leaves out.
WITH_AUXILIARY_HEAD = ("googlenet", "inception_v3")


@dataclass(frozen=True, slots=True)
class Architecture:
    """An architecture and how its photos are prepared. `pretrained` is torchvision's entry for its newest weights; None
    for a model of the zoo."""

    name: str
    preprocessing: Preprocessing
    pretrained: Any


def architecture(name: str) -> Architecture:
    """The zoo's or torchvision's architecture called `name`. Raises UsageError, which names close matches."""
    if name in SPECS:
        return Architecture(name, SPECS[name].preprocessing, None)
    names = torchvision_names()
    if name not in names:
        close = difflib.get_close_matches(name, [*SPECS, *names], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "label-models list --all shows all names"
        raise UsageError(f"there is no model called {name}; {hint}")
    pretrained = torchvision.models.get_model_weights(name).DEFAULT
    transforms = pretrained.transforms()
    return Architecture(
        name,
        Preprocessing(
            Crop(
                resize_size=int(transforms.resize_size[0]),
                crop_size=int(transforms.crop_size[0]),
                interpolation="bicubic" if transforms.interpolation.value == "bicubic" else "bilinear",
            ),
            Normalisation(mean=_in_pixels(transforms.mean), std=_in_pixels(transforms.std)),
        ),
        pretrained,
    )


def torchvision_names() -> list[str]:
    """The names of torchvision's classification models."""
    return list(torchvision.models.list_models(module=torchvision.models))


def new_module(name: str, classes: int) -> torch.nn.Module:
    """The architecture called `name` with `classes` outputs and random weights, in evaluation mode."""
    if name in VARIANTS:
        return efficientnet_lite(name, classes).eval()
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name in WITH_AUXILIARY_HEAD:
        options |= {"aux_logits": False, "init_weights": False}
    module: torch.nn.Module = torchvision.models.get_model(name, **options)
    return module.eval()


def published_weights(wanted: Architecture) -> tuple[StateDict, str, tuple[str, ...]]:
    """The published weights, the sha256 of their file, and their labels; downloaded by torch where they are missing.

    Raises InputMissingError where they cannot be downloaded, or do not have the digest that they were published with.
    """
    if wanted.pretrained is None:
        weights = SPECS[wanted.name].weights
        return read_checkpoint(find_weights(weights)), weights.sha256, imagenet_labels()
    path = Path(torch.hub.get_dir()) / "checkpoints" / wanted.pretrained.url.rsplit("/", 1)[-1]
    if not path.exists():
        _download(wanted, path)
    # torchvision's file names end in the first digits of the sha256.
    sha256 = check_digest(path, path.stem.rsplit("-", 1)[-1])
    return read_checkpoint(path), sha256, tuple(wanted.pretrained.meta["categories"])


def _download(wanted: Architecture, path: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        # torch announces the download on stdout, where only data belongs.
        with contextlib.redirect_stdout(sys.stderr):
            wanted.pretrained.get_state_dict(progress=False, check_hash=True)
    except (urllib.error.URLError, OSError) as error:
        raise InputMissingError(
            f"the weights of {wanted.name} are not here and cannot be downloaded: put {path.name} into {path.parent}, "
            "or name a weights file with --weights"
        ) from error
    except RuntimeError as error:
        raise InputMissingError(f"the downloaded weights of {wanted.name} have another hash than published") from error
    finally:
        socket.setdefaulttimeout(before)


def _in_pixels(values: list[float]) -> tuple[float, float, float]:
    """Three values in units of 0..1 in units of 0..255."""
    red, green, blue = (round(value * 255, 4) for value in values)
    return red, green, blue
