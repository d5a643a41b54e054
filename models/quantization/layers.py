"""The layers of a graph that have weights, the activations fused into them, and the tensors that need a range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from models.networks.graph import Array, Graph, attribute

QUANTIZED_OPERATORS = frozenset(
    {"Conv", "Gemm", "MatMul", "Add", "Mul", "GlobalAveragePool", "AveragePool", "MaxPool", "Concat", "Flatten"}
)
SHARED_RANGE_OPERATORS = frozenset({"MaxPool", "Flatten"})
WEIGHTED_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})
ACTIVATIONS = frozenset({"Relu", "Clip"})

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with its weights as a matrix: `weights` float64 [channels_out, taps], `bias` float64 [channels_out].

    `shape` is that of the weights' tensor in the graph, `axis` the axis of its output channels; `groups` as in a
    convolution.
    """

    node: onnx.NodeProto
    weights: Matrix
    bias: Matrix
    axis: int
    shape: tuple[int, ...]
    groups: int

    def in_graph_layout(self, matrix: Array) -> Array:
        """A matrix of the shape of `weights` in the shape of the graph's own tensor."""
        return np.ascontiguousarray(matrix.reshape(self.shape) if self.axis == 0 else matrix.T)

    def tap_orders(self) -> tuple[npt.NDArray[np.intp], ...]:
        """The orders, indices [taps], in which int8 kernels may read a row of weights and add neighbouring products.

        These are channels first and channels last. There are none for depthwise layers, whose kernels widen each
        product to 32 bits.
        """
        taps = np.arange(self.weights.shape[1])
        if len(self.shape) != 4:
            return (taps,)
        if self.groups > 1 and self.shape[1] == 1:
            return ()
        return taps, taps.reshape(self.shape[1], -1).T.reshape(-1)

    def mean_taps(self, mean_input: Matrix) -> Matrix:
        """The mean input of each weight, in the shape of `weights`, from the input's channel means; ignores padding."""
        channels_in = self.weights.shape[1] if len(self.shape) != 4 else self.shape[1]
        taps = self.weights.shape[1] // channels_in
        group_of_row = np.arange(len(self.weights)) * self.groups // len(self.weights)
        return np.repeat(mean_input.reshape(self.groups, -1)[group_of_row], taps, axis=1)

    def mean_output(self, matrix: Matrix, mean_input: Matrix) -> Matrix:
        """The layer's mean output [channels_out] with `matrix` as its weights, without padding and bias."""
        return np.asarray((matrix * self.mean_taps(mean_input)).sum(axis=1), np.float64)


def layer(graph: Graph, node: onnx.NodeProto) -> Layer | None:
    """The node as a layer, or None where it has no weights or they are no constant."""
    if node.op_type not in WEIGHTED_OPERATORS or node.input[1] not in graph.constants:
        return None
    stored = graph.constants[node.input[1]]
    transposed = node.op_type == "MatMul" or (node.op_type == "Gemm" and attribute(node, "transB", 0) == 0)
    if transposed and stored.ndim != 2:
        return None
    matrix = (stored.T if transposed else stored.reshape(len(stored), -1)).astype(np.float64)
    has_bias = len(node.input) > 2 and node.input[2] != ""
    bias = graph.constants[node.input[2]].astype(np.float64) if has_bias else np.zeros(len(matrix))
    groups = attribute(node, "group", 1)
    assert isinstance(groups, int)
    return Layer(node, matrix, bias.reshape(-1), 1 if transposed else 0, stored.shape, groups)


def fused_activations(graph: Graph) -> dict[str, str]:
    """Output of a layer or sum -> output of the activation that is its only reader. Both run as one int8 kernel."""
    fused = {}
    for node in graph.nodes:
        before = graph.producer(node.input[0]) if node.op_type in ACTIVATIONS else None
        layered = before is not None and before.op_type in ("Conv", "Gemm", "Add")
        if layered and len(graph.consumers(node.input[0])) == 1:
            fused[node.input[0]] = node.output[0]
    return fused


def ranged_tensors(graph: Graph) -> list[str]:
    """The tensors whose range an int8 graph needs, in order, each once; its logits are not among them.

    They are the inputs of layers with weights and, in convolutional graphs, the outputs of the other int8 kernels. In a
    graph with attention (a product of two activations) sums and products stay in fp32: they have outliers, and a range
    that covers those leaves too few levels for all other values.
    """
    fused = fused_activations(graph)
    attention = any(node.op_type == "MatMul" and layer(graph, node) is None for node in graph.nodes)
    names = []
    for node in graph.nodes:
        if layer(graph, node) is not None:
            names.append(node.input[0])
        if not attention and node.op_type in QUANTIZED_OPERATORS - SHARED_RANGE_OPERATORS:
            names.append(fused.get(node.output[0], node.output[0]))
    shared = {node.output[0] for node in graph.nodes if node.op_type in SHARED_RANGE_OPERATORS}
    return [name for name in dict.fromkeys(names) if name != graph.output_name and name not in shared]


def averaged_tensors(graph: Graph) -> list[str]:
    """The tensors whose channel means correct a bias: the inputs of layers with weights, in order, each once."""
    read = [node.input[0] for node in graph.nodes if layer(graph, node) is not None]
    return list(dict.fromkeys(read))
