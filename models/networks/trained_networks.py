"""Networks in torch with published weights, with a user's checkpoint, or with random weights for timing."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import torch

from models.errors import InputMissingError, UsageError, first_line
from models.networks.architectures import IMAGENET_CLASSES, architecture, new_module, published_weights
from models.networks.checkpoint import class_count, head_name, load_strictly, read_checkpoint
from models.networks.network import Network
from models.networks.torch_export import export_graph
from models.zoo import imagenet_labels

RANDOM_SEED = 20


@dataclass(frozen=True, slots=True)
class TrainedModule:
    """A network with its graph, and its state dict as the bytes that torch.save writes, for torch's engines."""

    network: Network
    state: bytes


def published(name: str) -> TrainedModule:
    """A model of the zoo or of torchvision with its published weights. Raises LabelDirError."""
    found = architecture(name)
    tensors, sha256, labels = published_weights(found)
    module = new_module(name, len(labels))
    load_strictly(module, tensors, name, f"of {name}")
    return _trained(name, name, module, labels, "published", sha256)


def from_checkpoint(architecture_name: str, weights: Path, labels: tuple[str, ...] | None, name: str) -> TrainedModule:
    """An architecture with the weights and the number of classes of a user's checkpoint. Raises LabelDirError; without
    `labels`, for any other number of classes than ImageNet's."""
    found = architecture(architecture_name)
    tensors = read_checkpoint(weights)
    head = head_name(new_module(found.name, IMAGENET_CLASSES), IMAGENET_CLASSES)
    classes = class_count(tensors, head, found.name, weights)
    if labels is None and classes != IMAGENET_CLASSES:
        raise UsageError(f"the weights {weights} have {classes} classes: name them with --labels FILE")
    labels = labels or imagenet_labels()
    if len(labels) != classes:
        raise UsageError(f"there are {len(labels)} labels, and the weights {weights} have {classes} classes")
    module = new_module(found.name, classes)
    load_strictly(module, tensors, found.name, weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    return _trained(name, found.name, module, labels, weights.name, sha256)


def random_weights(architecture_name: str, name: str) -> TrainedModule:
    """An architecture with random weights from a fixed seed, for timing only. Raises LabelDirError."""
    found = architecture(architecture_name)
    torch.manual_seed(RANDOM_SEED)
    module = new_module(found.name, IMAGENET_CLASSES)
    return _trained(name, found.name, module, imagenet_labels(), "random", f"random {RANDOM_SEED}")


def _trained(
    name: str, architecture_name: str, module: torch.nn.Module, labels: tuple[str, ...], weights: str, sha256: str
) -> TrainedModule:
    stream = io.BytesIO()
    torch.save(module.state_dict(), stream)
    preprocessing = architecture(architecture_name).preprocessing
    try:
        graph = export_graph(module, preprocessing.crop.crop_size)
    except Exception as error:
        raise InputMissingError(f"torch cannot export {architecture_name} to ONNX: {first_line(error)}") from error
    source = {"architecture": architecture_name, "weights": weights, "weights_sha256": sha256}
    return TrainedModule(Network(name, graph, preprocessing, labels, source), stream.getvalue())
