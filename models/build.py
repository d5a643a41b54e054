"""Weights -> fp32 graph -> fp32 and int8 artifacts. Imports torch, so a run never imports this: it runs in a child."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.artifact import Artifact, Precision, metadata_of
from models.calibrate import committed_calibration
from models.calibration import Calibration
from models.efficientnet_lite import efficientnet_lite
from models.errors import ModelError
from models.export import export_graph
from models.graph import Graph, fingerprint
from models.head import classifier_model
from models.quantize import PhotoInput, Quantizer, Recipe, photo_input
from models.spec import ModelSpec, Preprocessing
from models.zoo import categories, find_spec, find_weights


@dataclass(frozen=True, slots=True)
class Network:
    """A trained classifier before quantization: its fp32 graph and all that an artifact says besides."""

    name: str
    graph: Graph
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    source: dict[str, Any]


def zoo_network(spec: ModelSpec) -> Network:
    """The network of a zoo entry with its pinned weights. Raises ModelInputError where they are missing or others."""
    path = find_weights(spec.weights)
    module = efficientnet_lite(spec.architecture)
    module.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    graph = export_graph(module, spec.preprocessing.crop_size)
    source = {
        "architecture": spec.architecture,
        "weights": spec.weights.distribution,
        "weights_sha256": spec.weights.sha256,
    }
    return Network(spec.name, graph, spec.preprocessing, categories(spec.categories), source)


def fp32_artifact(network: Network) -> bytes:
    """The bytes of the fp32 artifact."""
    return _serialized(network, network.graph, "fp32", {}, {})


def int8_artifact(network: Network, calibration: Calibration, recipe: Recipe, validation: dict[str, Any]) -> bytes:
    """The bytes of the int8 artifact. Raises ModelError where the figures were measured on another graph."""
    if calibration.fingerprint != fingerprint(network.graph):
        raise ModelError(
            f"the calibration of {network.name} was measured on another graph "
            f"({calibration.fingerprint}; this one is {fingerprint(network.graph)})"
        )
    photo: PhotoInput | None = photo_input(network.preprocessing.mean, network.preprocessing.std)
    graph = Quantizer(network.graph, calibration, recipe, photo).run()
    told = {
        "source": calibration.source,
        "samples": calibration.samples,
        "method": calibration.method,
        "weight_range": recipe.weight_range,
        "float_nodes": recipe.float_nodes,
        "ranges": calibration.ranges,
    }
    return _serialized(network, graph, "int8", told, validation)


def _serialized(
    network: Network, graph: Graph, precision: Precision, calibration: dict[str, Any], validation: dict[str, Any]
) -> bytes:
    model = classifier_model(graph, network.preprocessing, len(network.labels))
    described = Artifact(
        path=Path(),
        name=network.name,
        sha256="",
        precision=precision,
        preprocessing=network.preprocessing,
        labels=network.labels,
        source=network.source,
        calibration=calibration,
        validation=validation,
    )
    for key, value in metadata_of(described).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString(deterministic=True))


def build_zoo_model(name: str) -> dict[Precision, bytes]:
    """Both artifacts of a zoo model with the calibration table committed for it."""
    network = zoo_network(find_spec(name))
    int8 = int8_artifact(network, committed_calibration(name), Recipe("portable"), {})
    return {"int8": int8, "fp32": fp32_artifact(network)}


def digest(content: bytes) -> str:
    """sha256 as hexadecimal."""
    return hashlib.sha256(content).hexdigest()
