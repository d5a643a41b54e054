"""A trained classifier before quantization: its fp32 graph, preprocessing, labels and source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.artifact import read_artifact
from models.errors import InputMissingError
from models.networks.graph import Graph, constants_of
from models.networks.onnx_model import BASIS, REFERENCES
from models.networks.references import References
from models.spec import Preprocessing


@dataclass(frozen=True, slots=True)
class Network:
    """`graph` maps normalised float32 [n, 3, crop, crop] to logits float32 [n, labels]; `source` as in Artifact.

    `references`, of a taught network, are what it compares photos with to tell how familiar they are.
    """

    name: str
    graph: Graph
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    source: dict[str, Any]
    references: References | None = None


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
    basis, photos = graph.constants.get(BASIS), graph.constants.get(REFERENCES)
    references = None
    if basis is not None and photos is not None:
        references = References(basis.astype(np.float32), photos.astype(np.float32))
    first = 1 + next(i for i, node in enumerate(graph.nodes) if graph.input_name in node.output)
    last = 1 + next(i for i, node in enumerate(graph.nodes) if graph.output_name in node.output)
    graph.nodes = graph.nodes[first:last]
    read = {name for node in graph.nodes for name in node.input}
    graph.constants = {name: value for name, value in graph.constants.items() if name in read}
    return Network(artifact.name, graph, artifact.preprocessing, artifact.labels, artifact.source, references)
