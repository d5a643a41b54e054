"""The ONNX models around a network's graph: the classifier from photos to top-k, and the bare network."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.networks.graph import IR_VERSION, PHOTO_TENSOR, Array, Graph
from models.networks.references import References
from models.spec import DEFAULT_TOP_K, Normalisation, Preprocessing

PHOTOS, TOP_K, PROBABILITIES, IDS, LOGITS = "photos", "k", "probabilities", "ids", "logits"
# How like anything that was taught a photo is, and the references that this is measured against.
FAMILIARITY, BASIS, REFERENCES = "familiarity", "familiarity.basis", "familiarity.photos"


def classifier_model(
    graph: Graph, preprocessing: Preprocessing, classes: int, references: References | None = None
) -> onnx.ModelProto:
    """The model of an artifact: normalisation, the network, softmax and top-k in one graph.

    In: "photos" uint8 [n, crop, crop, 3] RGB; "k" int64 [1], 3 where it is not given.
    Out: "probabilities" float32 [n, k] descending, "ids" int64 [n, k], "logits" float32 [n, classes],
    and with `references` "familiarity" float32 [n]: about the largest cosine of the photo's features to those of a
    photo that was taught.
    """
    constants = dict(graph.constants)
    nodes = [helper.make_node("Transpose", [PHOTOS], ["channels_first"], perm=[0, 3, 1, 2])]
    if graph.input_name == PHOTO_TENSOR:
        nodes[0].output[0] = PHOTO_TENSOR
    else:
        nodes += _normalisation_nodes(graph.input_name)
        constants |= _normalisation_constants(preprocessing.normalisation)
    nodes += graph.nodes
    if graph.output_name != LOGITS:
        nodes.append(helper.make_node("Identity", [graph.output_name], [LOGITS]))
    nodes.append(helper.make_node("Softmax", [LOGITS], ["softmax"], axis=1))
    nodes.append(helper.make_node("TopK", ["softmax", TOP_K], [PROBABILITIES, IDS], axis=1, largest=1, sorted=1))
    constants[TOP_K] = np.array([min(DEFAULT_TOP_K, classes)], np.int64)
    side = preprocessing.crop.crop_size
    inputs = [
        helper.make_tensor_value_info(PHOTOS, TensorProto.UINT8, ["n", side, side, 3]),
        helper.make_tensor_value_info(TOP_K, TensorProto.INT64, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["n", "top_k"]),
        helper.make_tensor_value_info(IDS, TensorProto.INT64, ["n", "top_k"]),
        helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["n", classes]),
    ]
    if references is not None:
        nodes += _familiarity_nodes(graph)
        constants |= {BASIS: references.basis, REFERENCES: references.photos}
        constants["familiarity.axes"] = np.array([1], np.int64)
        outputs.append(helper.make_tensor_value_info(FAMILIARITY, TensorProto.FLOAT, ["n"]))
    return _model("classifier", Graph(nodes, constants, PHOTOS, LOGITS, opset=graph.opset), inputs, outputs)


def _normalisation_nodes(output_name: str) -> list[onnx.NodeProto]:
    """Return what makes the network's input of pixels from 0 to 255."""
    return [
        helper.make_node("Cast", ["channels_first"], ["photo_real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["photo_real", "normalise.factor"], ["photo_scaled"]),
        helper.make_node("Add", ["photo_scaled", "normalise.shift"], [output_name]),
    ]


def _normalisation_constants(normalisation: Normalisation) -> dict[str, Array]:
    mean, std = np.array(normalisation.mean), np.array(normalisation.std)
    return {
        "normalise.factor": (1 / std).astype(np.float32).reshape(1, 3, 1, 1),
        "normalise.shift": (-mean / std).astype(np.float32).reshape(1, 3, 1, 1),
    }


def _familiarity_nodes(graph: Graph) -> list[onnx.NodeProto]:
    """What follows the features, which are what the layer of the logits reads."""
    head = graph.producer(graph.output_name)
    assert head is not None
    features, axes = head.input[0], "familiarity.axes"
    return [
        helper.make_node("MatMul", [features, BASIS], ["familiarity.projected"]),
        helper.make_node("MatMul", ["familiarity.projected", REFERENCES], ["familiarity.products"]),
        helper.make_node("ReduceMax", ["familiarity.products", axes], ["familiarity.largest"], keepdims=0),
        helper.make_node("ReduceL2", [features, axes], ["familiarity.length"], keepdims=0),
        helper.make_node("Div", ["familiarity.largest", "familiarity.length"], [FAMILIARITY]),
    ]


def network_model(graph: Graph, extra_outputs: list[str]) -> onnx.ModelProto:
    """The model of the bare network, float32 [n, 3, side, side] in, with more of its tensors as outputs."""
    inputs = [helper.make_tensor_value_info(graph.input_name, TensorProto.FLOAT, ["n", *graph.input_shape[1:]])]
    names = dict.fromkeys([graph.output_name, *extra_outputs])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    return _model("network", graph, inputs, outputs)


def _model(
    name: str, graph: Graph, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in graph.constants.items()]
    body = helper.make_graph(graph.nodes, name, inputs, outputs, tensors)
    opset = helper.make_opsetid("", graph.opset)
    return helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION, producer_name="label-dir")
