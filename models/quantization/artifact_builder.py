"""A network -> the bytes of its fp32 artifact and, with a calibration and a recipe, of its int8 artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.artifact import Artifact, Precision, metadata_of
from models.errors import ModelError
from models.networks.graph import Graph, fingerprint
from models.networks.network import Network
from models.networks.onnx_model import classifier_model
from models.quantization.calibration_table import Calibration
from models.quantization.quantize import Quantizer, Recipe, photo_input


def fp32_artifact(network: Network) -> bytes:
    """The bytes of the fp32 artifact."""
    return _serialized(network, network.graph, "fp32", {}, {})


def int8_artifact(
    network: Network, calibration: Calibration, recipe: Recipe, validation: dict[str, Any] | None = None
) -> bytes:
    """The bytes of the int8 artifact. Raises LabelDirError where the calibration was measured on another graph."""
    if calibration.fingerprint != fingerprint(network.graph):
        raise ModelError(
            f"the calibration of {network.name} was measured on another graph "
            f"({calibration.fingerprint}; this one is {fingerprint(network.graph)})"
        )
    normalisation = network.preprocessing.normalisation
    photo = photo_input(normalisation.mean, normalisation.std)
    graph = Quantizer(network.graph, calibration, recipe, photo).run()
    description = {
        "source": calibration.source,
        "samples": calibration.samples,
        "method": calibration.method,
        "weight_range": recipe.weight_range,
        "float_nodes": recipe.float_nodes,
        "ranges": calibration.ranges,
    }
    return _serialized(network, graph, "int8", description, validation or {})


def _serialized(
    network: Network, graph: Graph, precision: Precision, calibration: dict[str, Any], validation: dict[str, Any]
) -> bytes:
    model = classifier_model(graph, network.preprocessing, len(network.labels), network.references)
    texts = (network.preprocessing, network.labels, network.source, calibration, validation)
    for key, value in metadata_of(Artifact(Path(), network.name, "", precision, *texts)).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(model.SerializeToString(deterministic=True))
