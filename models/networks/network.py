"""A trained classifier before quantization: its fp32 graph, preprocessing, labels and source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from models.artifact import read_artifact
from models.errors import InputMissingError
from models.networks.graph import Array, Graph, constants_of
from models.networks.onnx_model import MEANS
from models.spec import Preprocessing


@dataclass(frozen=True, slots=True)
class Network:
    """`graph` maps normalised float32 [n, 3, crop, crop] to logits float32 [n, labels]; `source` as in Artifact.

    `means` float32 [features, labels], of a taught network, are the unit directions of each class's mean features.
    """

    name: str
    graph: Graph
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    source: dict[str, Any]
    means: Array | None = None


def read_network(fp32_path: Path) -> Network:
    """The network inside an fp32 artifact, without the nodes that normalise photos and those after the logits.

    Raises InputMissingError for any other file.
    """
    artifact = read_artifact(fp32_path)
    if artifact.precision != "fp32":
        raise InputMissingError(f"{fp32_path} is no fp32 model")
    model = onnx.load(fp32_path)
    shape = (0, 3, artifact.preprocessing.crop.crop_size, artifact.preprocessing.crop.crop_size)
    graph = Graph(list(model.graph.node), constants_of(model), "input", "logits", shape, model.opset_import[0].version)
    means = graph.constants.get(MEANS)
    first = 1 + next(i for i, node in enumerate(graph.nodes) if graph.input_name in node.output)
    last = 1 + next(i for i, node in enumerate(graph.nodes) if graph.output_name in node.output)
    graph.nodes = graph.nodes[first:last]
    read = {name for node in graph.nodes for name in node.input}
    graph.constants = {name: value for name, value in graph.constants.items() if name in read}
    return Network(artifact.name, graph, artifact.preprocessing, artifact.labels, artifact.source, means)
