"""A user's ONNX classifier -> a network in canonical form, or an error that says why it cannot be one."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from models.errors import InputMissingError, UsageError, first_line
from models.networks.graph import OPSET, Graph, read_graph
from models.networks.network import Network
from models.networks.onnx_model import network_model
from models.onnx_runtime import FATAL_ONLY, onnxruntime, open_session, quiet_options
from models.spec import Preprocessing
from models.system.outside_text import terminal_text

OLDEST_OPSET = 13
_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """An ONNX file, the model's name, the preprocessing of its photos and the labels of its classes."""

    path: Path
    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]


def imported_network(request: ImportRequest) -> Network:
    """The network in an ONNX file. Raises InputMissingError or UsageError.

    The network must map float32 [n, 3, side, side] to logits or probabilities [n, classes]. The file must use standard
    operators only and hold all its tensors.
    """
    model = _loaded(request.path)
    try:
        graph = read_graph(onnx.load_from_string(_folded(model)))
    except ValueError as error:
        raise InputMissingError(f"{request.path} {error}") from error
    last = graph.producer(graph.output_name)
    if last is not None and last.op_type == "Softmax":
        graph.nodes.remove(last)
        graph.output_name = last.input[0]
    side = request.preprocessing.crop.crop_size
    graph.input_shape = (0, 3, side, side)
    _check_shapes(request, graph)
    sha256 = hashlib.sha256(request.path.read_bytes()).hexdigest()
    source = {"architecture": "imported", "weights": request.path.name, "weights_sha256": sha256}
    return Network(request.name, graph, request.preprocessing, request.labels, source)


def _loaded(path: Path) -> onnx.ModelProto:
    """The checked model of a file, in OPSET where its own is older than OLDEST_OPSET. Raises InputMissingError."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise InputMissingError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise InputMissingError(f"{path} is damaged or no ONNX file") from error
    if not model.graph.node:
        raise InputMissingError(f"{path} is damaged or no ONNX file")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)):
        raise InputMissingError(f"{path} keeps tensors in other files: save it as one file")
    if foreign := sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")}):
        shown = terminal_text(", ".join(foreign[:_MOST_SHOWN]))
        raise InputMissingError(f"{path} uses operators that are not ONNX's own: {shown}")
    try:
        onnx.checker.check_model(model)
        version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        return model if version >= OLDEST_OPSET else onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise InputMissingError(f"{path} is no valid ONNX model: {first_line(error)}") from error


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a graph, of its nodes' attributes and of the graphs inside these."""
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def _folded(model: onnx.ModelProto) -> bytes:
    """The bytes of the model with constants folded and batch norms fused by onnxruntime's basic optimizations, which
    add no operators of its own. Raises InputMissingError."""
    options = quiet_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            open_session(model.SerializeToString(), options)
        except Exception as error:
            raise InputMissingError(f"onnxruntime cannot run the model: {first_line(error)}") from error
        return Path(options.optimized_model_filepath).read_bytes()


def _check_shapes(request: ImportRequest, graph: Graph) -> None:
    """Run the network on two photos. Raises LabelDirError where the result is not two rows of one logit a label."""
    side = request.preprocessing.crop.crop_size
    photos = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    try:
        session = open_session(network_model(graph, []).SerializeToString(), quiet_options(severity=FATAL_ONLY))
        logits = session.run(None, {graph.input_name: photos})[0]
    except Exception as error:
        raise InputMissingError(
            f"{request.path} does not take batches of photos, float32 [n, 3, {side}, {side}]: is --input right, and "
            "was it exported with a dynamic batch axis?"
        ) from error
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32:
        raise InputMissingError(f"{request.path} gives something else than scores in float32")
    if logits.ndim != 2 or len(logits) != 2:
        raise InputMissingError(f"{request.path} gives {list(logits.shape)} for two photos, not [2, classes]")
    if not np.isfinite(logits).all():
        raise InputMissingError(f"{request.path} gives scores that are not finite numbers")
    if logits.shape[1] != len(request.labels):
        count = len(request.labels)
        raise UsageError(f"there are {count} labels, and {request.path} has {logits.shape[1]} classes")
