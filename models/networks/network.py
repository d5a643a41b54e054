"""A trained classifier before quantization: its fp32 graph and all that an artifact says besides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from models.artifact import read_artifact
from models.errors import InputMissingError
from models.networks.graph import Graph, constants_of
from models.spec import Preprocessing


@dataclass(frozen=True, slots=True)
class Network:
    """`graph` maps normalised float32 [n, 3, crop, crop] to logits float32 [n, labels]; `source` as in Artifact."""

    name: str
    graph: Graph
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    source: dict[str, Any]


def network_of(fp32_path: Path) -> Network:
    """The network inside an fp32 artifact, without its way in and out.

    Raises InputMissingError for anything else.
    """
    artifact = read_artifact(fp32_path)
    if artifact.precision != "fp32":
        raise InputMissingError(f"{fp32_path} is no fp32 model")
    model = onnx.load(fp32_path)
    graph = Graph(list(model.graph.node), constants_of(model), "input", "logits", (), model.opset_import[0].version)
    _cut(graph)
    side = artifact.preprocessing.crop.crop_size
    graph.input_shape = (0, 3, side, side)
    return Network(artifact.name, graph, artifact.preprocessing, artifact.labels, artifact.source)


def _cut(graph: Graph) -> None:
    """Keep the nodes from the normalised photo to the logits, and the constants they read."""
    first = 1 + next(i for i, node in enumerate(graph.nodes) if graph.input_name in node.output)
    last = 1 + next(i for i, node in enumerate(graph.nodes) if graph.output_name in node.output)
    graph.nodes = graph.nodes[first:last]
    read = {name for node in graph.nodes for name in node.input}
    graph.constants = {name: value for name, value in graph.constants.items() if name in read}
