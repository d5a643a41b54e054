"""A typed view of an ONNX graph, and the canonical form that label-dir stores graphs in.

The canonical form has no paths of a machine, no names of an exporter and no constants inside nodes. So the same network
gives the same bytes whichever version of the exporter wrote it, and calibration figures find their tensors by name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

# The graph input of a network that takes the photo itself: uint8 [n, crop, crop, 3].
PHOTO_TENSOR = "pixels"
OPSET = 20
IR_VERSION = 10

Array = npt.NDArray[np.generic]


@dataclass(slots=True)
class Graph:
    """Nodes in topological order, constants by name, and the single input and output of a classifier network."""

    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    input_name: str
    output_name: str
    input_shape: tuple[int, ...] = ()
    opset: int = OPSET

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that writes `tensor`, or None for the graph input and for constants."""
        return next((node for node in self.nodes if tensor in node.output), None)

    def consumers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read `tensor`, in order."""
        return [node for node in self.nodes if tensor in node.input]

    def replace_tensor(self, old: str, new: str) -> None:
        """Make every reader of `old`, and the graph output, read `new` instead."""
        for node in self.nodes:
            for position, name in enumerate(node.input):
                if name == old:
                    node.input[position] = new
        if self.output_name == old:
            self.output_name = new


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute, or `default`."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return default


def constants_of(model: onnx.ModelProto) -> dict[str, Array]:
    """The model's stored tensors by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def read_graph(model: onnx.ModelProto) -> Graph:
    """The graph of a model, in canonical form.

    Raises ValueError for a model of several inputs or outputs, and for one that reads a tensor that is nowhere.
    """
    initializers = constants_of(model)
    inputs = [value for value in model.graph.input if value.name not in initializers]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ValueError(f"has {len(inputs)} inputs and {len(model.graph.output)} outputs instead of one")
    shape = tuple(dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    graph = Graph(list(model.graph.node), initializers, inputs[0].name, model.graph.output[0].name, shape, opset)
    _lift_constants(graph)
    _drop_identities(graph)
    _pool_globally(graph)
    _check_tensors(graph)
    _rename(graph)
    return graph


def _lift_constants(graph: Graph) -> None:
    """Move the value of every Constant node to the graph's constants."""
    kept = []
    for node in graph.nodes:
        value = attribute(node, "value") if node.op_type == "Constant" else None
        if isinstance(value, onnx.TensorProto):
            graph.constants[node.output[0]] = numpy_helper.to_array(value)
        else:
            kept.append(node)
    graph.nodes = kept


def _drop_identities(graph: Graph) -> None:
    for node in [node for node in graph.nodes if node.op_type in ("Identity", "Dropout")]:
        graph.nodes.remove(node)
        graph.replace_tensor(node.output[0], node.input[0])


def _pool_globally(graph: Graph) -> None:
    """Replace a mean over height and width by GlobalAveragePool, which has an int8 kernel, and a Reshape of its output
    to [n, channels] by Flatten."""
    for node in graph.nodes:
        if node.op_type != "ReduceMean" or attribute(node, "keepdims", 1) != 1:
            continue
        stored = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
        axes = stored.tolist() if stored is not None else attribute(node, "axes")
        if axes in ([2, 3], [3, 2], [-2, -1], [-1, -2]):
            node.CopyFrom(helper.make_node("GlobalAveragePool", [node.input[0]], [node.output[0]]))
    for node in graph.nodes:
        before = graph.producer(node.input[0]) if node.op_type == "Reshape" else None
        shape = graph.constants.get(node.input[1]) if before is not None else None
        if before is not None and before.op_type == "GlobalAveragePool" and shape is not None and shape.size == 2:
            node.CopyFrom(helper.make_node("Flatten", [node.input[0]], [node.output[0]], axis=1))


def _check_tensors(graph: Graph) -> None:
    """Raise ValueError where a node reads a tensor that is neither computed nor stored, such as a sparse one."""
    known = {"", graph.input_name, *graph.constants, *(name for node in graph.nodes for name in node.output)}
    if any(name not in known for node in graph.nodes for name in node.input):
        raise ValueError("reads a tensor that is neither computed nor stored in the usual form")


def _rename(graph: Graph) -> None:
    """Name every tensor after its node's operator and position, sort attributes, drop texts and unused constants."""
    names = {graph.input_name: "input", graph.output_name: "logits", "": ""}
    for index, node in enumerate(graph.nodes):
        stem = f"{node.op_type.lower()}_{index:03d}"
        for position, name in enumerate(node.output):
            names.setdefault(name, stem if position == 0 else f"{stem}_{position}")
    constants: dict[str, Array] = {}
    for index, node in enumerate(graph.nodes):
        for position, name in enumerate(node.input):
            if name in graph.constants and name not in names:
                names[name] = f"{node.op_type.lower()}_{index:03d}.{position}"
            if name in graph.constants:
                constants[names[name]] = graph.constants[name]
    clean = []
    for node in graph.nodes:
        copy = helper.make_node(node.op_type, [names[n] for n in node.input], [names[n] for n in node.output])
        copy.domain = node.domain
        copy.attribute.extend(sorted(node.attribute, key=lambda item: item.name))
        for item in copy.attribute:
            item.doc_string = ""
        clean.append(copy)
    graph.nodes, graph.constants = clean, constants
    graph.input_name, graph.output_name = "input", names[graph.output_name]


def fingerprint(graph: Graph) -> str:
    """The number of nodes of each operator, as text. Calibration figures fit a graph of the same fingerprint only."""
    counts = Counter(node.op_type for node in graph.nodes)
    return " ".join(f"{kind}:{count}" for kind, count in sorted(counts.items()))
