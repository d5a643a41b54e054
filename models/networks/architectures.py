"""Names -> torch modules, and what torchvision knows of its own: preprocessing, categories, pretrained weights.

Imports torch and torchvision, so a run never imports this.
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
from models.zoo import SPECS, categories, check_digest, find_weights

DOWNLOAD_TIMEOUT_S = 20.0
IMAGENET_CLASSES = 1000
# These two carry a second classifier for training, which they drop where they are told so.
WITH_AUXILIARY_HEAD = ("googlenet", "inception_v3")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A named network shape and how its photos are prepared; `pretrained` is torchvision's weights entry, if it has
    one."""

    name: str
    preprocessing: Preprocessing
    pretrained: Any


def architecture(name: str) -> Architecture:
    """The zoo's or torchvision's architecture called `name`. Raises UsageError, with close matches."""
    if name in SPECS:
        return Architecture(name, SPECS[name].preprocessing, None)
    names = torchvision_names()
    if name not in names:
        close = difflib.get_close_matches(name, [*SPECS, *names], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else "label-models list --all tells what there is"
        raise UsageError(f"there is no model called {name}; {hint}")
    pretrained = torchvision.models.get_model_weights(name).DEFAULT
    rule = pretrained.transforms()
    return Architecture(
        name,
        Preprocessing(
            Crop(
                resize_size=int(rule.resize_size[0]),
                crop_size=int(rule.crop_size[0]),
                interpolation="bicubic" if rule.interpolation.value == "bicubic" else "bilinear",
            ),
            Normalisation(mean=_in_pixels(rule.mean), std=_in_pixels(rule.std)),
        ),
        pretrained,
    )


def torchvision_names() -> list[str]:
    """The names of torchvision's classification models."""
    return list(torchvision.models.list_models(module=torchvision.models))


def new_module(name: str, classes: int) -> torch.nn.Module:
    """The network with random weights, in evaluation mode."""
    if name in VARIANTS:
        return efficientnet_lite(name, classes).eval()
    options: dict[str, Any] = {"weights": None, "num_classes": classes}
    if name in WITH_AUXILIARY_HEAD:
        options |= {"aux_logits": False, "init_weights": False}
    module: torch.nn.Module = torchvision.models.get_model(name, **options)
    return module.eval()


def published_weights(found: Architecture) -> tuple[StateDict, str, tuple[str, ...]]:
    """The published weights, their sha256 or what is known of it, and their categories. Raises InputMissingError."""
    if found.pretrained is None:
        spec = SPECS[found.name]
        return read_checkpoint(find_weights(spec.weights)), spec.weights.sha256, categories(spec.categories)
    labels = tuple(found.pretrained.meta["categories"])
    file_name = found.pretrained.url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if not path.exists():
        _download(found, path)
    sha256 = check_digest(path, Path(file_name).stem.rsplit("-", 1)[-1])
    return read_checkpoint(path), sha256, labels


def _download(found: Architecture, path: Path) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        # torch announces the download on stdout, where only data belongs.
        with contextlib.redirect_stdout(sys.stderr):
            found.pretrained.get_state_dict(progress=False, check_hash=True)
    except (urllib.error.URLError, OSError) as error:
        raise InputMissingError(
            f"the weights of {found.name} are not here and cannot be downloaded: put {path.name} into {path.parent}, "
            "or name a weights file with --weights"
        ) from error
    except RuntimeError as error:
        raise InputMissingError(f"the downloaded weights of {found.name} have another hash than published") from error
    finally:
        socket.setdefaulttimeout(before)


def _in_pixels(values: list[float]) -> tuple[float, float, float]:
    red, green, blue = (round(value * 255, 4) for value in values)
    return red, green, blue
