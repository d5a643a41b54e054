"""Which nodes of a graph carry weights, which activations follow them, and where activations need a range."""

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
    """A node with weights, as a matrix: `weights` float64 [channels_out, taps], `bias` float64 [channels_out].

    `axis` is the output channels' axis in the stored tensor, whose shape is `shape`; `groups` as in a convolution.
    """

    node: onnx.NodeProto
    weights: Matrix
    bias: Matrix
    axis: int
    shape: tuple[int, ...]
    groups: int

    def stored(self, matrix: Array) -> Array:
        """A matrix of the shape of `weights` in the layout of the graph's own tensor."""
        return np.ascontiguousarray(matrix.reshape(self.shape) if self.axis == 0 else matrix.T)

    def tap_orders(self) -> tuple[npt.NDArray[np.intp], ...]:
        """The orders, indices [taps], in which int8 kernels may walk a row of weights and add up neighbours.

        Channels first or channels last; none for depthwise layers, whose kernels widen each product to 32 bits.
        """
        taps = np.arange(self.weights.shape[1])
        if len(self.shape) != 4:
            return (taps,)
        if self.groups > 1 and self.shape[1] == 1:
            return ()
        return taps, taps.reshape(self.shape[1], -1).T.reshape(-1)

    def mean_taps(self, mean_input: Matrix) -> Matrix:
        """The mean input of every weight, of the shape of `weights`, borders apart, from the input's channel means."""
        channels_in = self.weights.shape[1] if len(self.shape) != 4 else self.shape[1]
        taps = self.weights.shape[1] // channels_in
        group_of_row = np.arange(len(self.weights)) * self.groups // len(self.weights)
        return np.repeat(mean_input.reshape(self.groups, -1)[group_of_row], taps, axis=1)

    def mean_output(self, matrix: Matrix, mean_input: Matrix) -> Matrix:
        """What `matrix` in place of the weights gives on average, borders apart, for the input's channel means."""
        return np.asarray((matrix * self.mean_taps(mean_input)).sum(axis=1), np.float64)


def layer(graph: Graph, node: onnx.NodeProto) -> Layer | None:
    """The node as a layer, or None where its weights are no constant."""
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
    """Output of a layer or sum -> output of the activation that alone reads it: the two become one int8 kernel."""
    fused = {}
    for node in graph.nodes:
        before = graph.producer(node.input[0]) if node.op_type in ACTIVATIONS else None
        layered = before is not None and before.op_type in ("Conv", "Gemm", "Add")
        if layered and len(graph.consumers(node.input[0])) == 1:
            fused[node.input[0]] = node.output[0]
    return fused


def ranged_tensors(graph: Graph) -> list[str]:
    """The activations whose range an int8 graph needs, in order, each once; its logits are not among them.

    They are what layers with weights read and, in convolutional graphs, what the other int8 kernels write. In a graph
    with attention (a product of two activations) sums and products stay in fp32, where their outliers do no harm.
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
    """The activations whose channel means correct a layer's bias: what layers read, in order, each once."""
    read = [node.input[0] for node in graph.nodes if layer(graph, node) is not None]
    return list(dict.fromkeys(read))
