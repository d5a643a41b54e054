"""Somebody's own ONNX classifier -> a network in canonical form, or a sentence that says why not."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from models.errors import InputMissingError, UsageError
from models.networks.classifier_head import network_model
from models.networks.graph import OPSET, Graph, read_graph
from models.networks.network import Network
from models.onnx_runtime import onnxruntime
from models.spec import Preprocessing

OLDEST_OPSET = 13


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """An ONNX file, what to call it, how its photos are prepared and what its classes are called."""

    path: Path
    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...]


def imported_network(request: ImportRequest) -> Network:
    """The network in an ONNX file. Raises InputMissingError or UsageError.

    It must map float32 [n, 3, side, side] to logits or probabilities [n, classes], with standard operators only and all
    its tensors inside the file.
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
    try:
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise InputMissingError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:
        raise InputMissingError(f"{path} is damaged or no ONNX file") from error
    if not model.graph.node:
        raise InputMissingError(f"{path} is damaged or no ONNX file")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise InputMissingError(f"{path} keeps tensors in other files: save it as one file")
    foreign = sorted(
        {f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    )
    if foreign:
        raise InputMissingError(f"{path} uses operators that are not ONNX's own: {', '.join(foreign)}")
    try:
        onnx.checker.check_model(model)
        version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        return model if version >= OLDEST_OPSET else onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:
        raise InputMissingError(f"{path} is no valid ONNX model: {str(error).splitlines()[0]}") from error


def _folded(model: onnx.ModelProto) -> bytes:
    """The model with constants folded and batch norms fused by onnxruntime's basic optimizations; still plain ONNX."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputMissingError(f"onnxruntime cannot run the model: {str(error).splitlines()[0]}") from error
        return Path(options.optimized_model_filepath).read_bytes()


def _check_shapes(request: ImportRequest, graph: Graph) -> None:
    """Run it: two photos must give two rows of logits, each as if it were alone."""
    side = request.preprocessing.crop.crop_size
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    photos = np.random.default_rng(0).normal(size=(2, 3, side, side)).astype(np.float32)
    try:
        content = network_model(graph, []).SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        logits = session.run(None, {graph.input_name: photos})[0]
    except Exception as error:
        raise InputMissingError(
            f"{request.path} does not take batches of photos, float32 [n, 3, {side}, {side}]: is --input right, and "
            "was it exported with a dynamic batch axis?"
        ) from error
    if logits.ndim != 2 or len(logits) != 2:
        raise InputMissingError(f"{request.path} gives {list(logits.shape)} for two photos, not [2, classes]")
    if logits.shape[1] != len(request.labels):
        raise UsageError(f"there are {len(request.labels)} labels, and {request.path} has {logits.shape[1]} classes")
