"""fp32 graph and activation figures -> int8 graph in QDQ form (QuantizeLinear and DequantizeLinear pairs).

Activations are uint8 with a zero point, per tensor; weights int8, symmetric, per output channel; biases int32. What
rounding the weights adds to a layer's mean output is taken off its bias: Nagel et al., "Data-Free Quantization through
Weight Equalization and Bias Correction", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from models.networks.graph import PHOTO_TENSOR, Array, Graph
from models.quantization.calibration_table import Calibration
from models.quantization.layers import QUANTIZED_OPERATORS, SHARED_RANGE_OPERATORS, Layer, fused_activations, layer
from models.quantization.weight_rounding import WeightRange, channel_scales, quantize_weights

UINT8_STEPS = 255
# How far the photo's zero point may be off a channel's mean, in standard deviations: what the padding is then off by.
LARGEST_BORDER_SHIFT = 0.02


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a graph becomes int8: the range of its weights, and the nodes (by output name) that stay in fp32."""

    weight_range: WeightRange
    float_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Affine:
    """What a uint8 tensor means: real = scale * (integer - zero_point)."""

    scale: np.float32
    zero_point: int


def affine(low: float, high: float) -> Affine:
    """The uint8 map whose range holds [low, high] and zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-6) / UINT8_STEPS)
    return Affine(scale, int(np.clip(np.rint(-low / scale), 0, UINT8_STEPS)))


@dataclass(frozen=True, slots=True)
class PhotoInput:
    """A uint8 photo as the quantized input itself: the network reads the affine map of it, plus a shift per channel."""

    affine: Affine
    shifts: tuple[float, ...]


def photo_input(mean: tuple[float, ...], std: tuple[float, ...]) -> PhotoInput | None:
    """The photo as the network's quantized input, or None where its channels differ too much for one scale."""
    if len(set(std)) != 1:
        return None
    zero_point = round(sum(mean) / len(mean))
    shifts = tuple((zero_point - value) / std[0] for value in mean)
    if max(abs(shift) for shift in shifts) > LARGEST_BORDER_SHIFT:
        return None
    return PhotoInput(Affine(np.float32(1 / std[0]), zero_point), shifts)


class Quantizer:
    """Writes the int8 form of one graph, node after node."""

    def __init__(self, graph: Graph, calibration: Calibration, recipe: Recipe, photo: PhotoInput | None):
        self.graph, self.calibration, self.recipe = graph, calibration, recipe
        self.fused = fused_activations(graph)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.affines: dict[str, Affine] = {}
        self.photo = photo

    def run(self) -> Graph:
        """The int8 graph. It reads uint8 "pixels" [n, c, h, w] where the photo is the quantized input."""
        input_name = self.graph.input_name
        if self.photo is not None:
            self._dequantize(input_name, self.photo.affine, PHOTO_TENSOR)
        elif input_name in self.calibration.ranges:
            self._quantize(input_name, affine(*self.calibration.ranges[input_name]))
        for node in self.graph.nodes:
            self._write(node)
        source = PHOTO_TENSOR if self.photo is not None else input_name
        kept = self.graph
        return Graph(self.nodes, self.constants, source, kept.output_name, kept.input_shape, kept.opset)

    def _write(self, node: onnx.NodeProto) -> None:
        output = node.output[0]
        if output in self.fused.values() and self._fuses(node.input[0]):
            return
        weighted = layer(self.graph, node)
        dynamic = [name for name in node.input if name and name not in self.graph.constants]
        if not self._is_int8(node, weighted, dynamic):
            self._copy(node, [self._read(name) for name in node.input], output)
            self._quantize_if_ranged(output)
            return
        constants = self._weight_inputs(weighted) if weighted is not None else []
        self._copy(node, [self._read(name) for name in dynamic] + constants, output)
        if node.op_type in SHARED_RANGE_OPERATORS:
            self._quantize(output, self.affines[node.input[0]])
        elif self._fuses(output):
            activated = self.fused[output]
            self._quantize(activated, affine(*self.calibration.ranges[activated]), output)
        else:
            self._quantize_if_ranged(output)

    def _is_int8(self, node: onnx.NodeProto, weighted: Layer | None, dynamic: list[str]) -> bool:
        if node.op_type not in QUANTIZED_OPERATORS or node.output[0] in self.recipe.float_nodes:
            return False
        if not all(name in self.affines for name in dynamic):
            return False
        if weighted is not None or node.op_type in SHARED_RANGE_OPERATORS:
            return True
        written = self.fused.get(node.output[0], node.output[0])
        return written in self.calibration.ranges and len(dynamic) == len(node.input)

    def _fuses(self, output: str) -> bool:
        """Whether uint8 saturation carries out the activation that follows: its range must begin at zero."""
        activated = self.fused.get(output)
        if activated is None or activated not in self.calibration.ranges or output in self.recipe.float_nodes:
            return False
        return self.calibration.ranges[activated][0] >= 0.0

    def _quantize_if_ranged(self, tensor: str) -> None:
        if tensor in self.calibration.ranges and tensor != self.graph.output_name:
            self._quantize(tensor, affine(*self.calibration.ranges[tensor]))

    def _quantize(self, tensor: str, scale: Affine, written: str | None = None) -> None:
        """QuantizeLinear and DequantizeLinear after the tensor; its readers then read the second's output."""
        self._affine_constants(tensor, scale)
        inputs = [written or tensor, f"{tensor}.scale", f"{tensor}.zero"]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{tensor}.uint8"]))
        self._dequantize(tensor, scale, f"{tensor}.uint8")

    def _dequantize(self, tensor: str, scale: Affine, integers: str) -> None:
        self._affine_constants(tensor, scale)
        inputs = [integers, f"{tensor}.scale", f"{tensor}.zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{tensor}.real"]))
        self.affines[tensor] = scale

    def _affine_constants(self, tensor: str, scale: Affine) -> None:
        self.constants[f"{tensor}.scale"] = np.asarray(scale.scale)
        self.constants[f"{tensor}.zero"] = np.asarray(scale.zero_point, np.uint8)

    def _weight_inputs(self, found: Layer) -> list[str]:
        """The dequantized weights and bias of a layer, written as constants: their names."""
        name, source = found.node.output[0], found.node.input[0]
        scale = self.affines[source]
        bias = found.bias
        if source == self.graph.input_name and self.photo is not None:
            bias = bias + found.mean_output(found.weights, np.asarray(self.photo.shifts))
        mean_input = np.asarray(self.calibration.means[source])
        scales = channel_scales(found.weights, self.recipe.weight_range, found.tap_orders())
        quantized = quantize_weights(found.weights, bias, float(scale.scale), scales, found.mean_taps(mean_input))
        change = quantized.values * quantized.scales.astype(np.float64)[:, None] - found.weights
        bias = bias - found.mean_output(change, mean_input)
        bias_scales = scale.scale * quantized.scales
        self.constants[f"{name}.weight"] = found.stored(quantized.values)
        self.constants[f"{name}.weight_scale"] = quantized.scales
        # Said, though zero is the default: without it onnxruntime computes a fully connected layer in fp32, and there
        # a photo's last bit depends on how many photos share its batch.
        self.constants[f"{name}.weight_zero"] = np.zeros_like(quantized.scales, np.int8)
        self.constants[f"{name}.bias"] = np.rint(bias / bias_scales).astype(np.int32)
        self.constants[f"{name}.bias_scale"] = bias_scales
        for part, axis, more in (("weight", found.axis, [f"{name}.weight_zero"]), ("bias", 0, [])):
            inputs = [f"{name}.{part}", f"{name}.{part}_scale", *more]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.{part}_real"], axis=axis))
        return [f"{name}.weight_real", f"{name}.bias_real"]

    def _copy(self, node: onnx.NodeProto, inputs: list[str], output: str) -> None:
        copy = helper.make_node(node.op_type, inputs, [output, *node.output[1:]])
        copy.domain = node.domain
        copy.attribute.extend(node.attribute)
        self.nodes.append(copy)
        for name in inputs:
            if name in self.graph.constants:
                self.constants[name] = self.graph.constants[name]

    def _read(self, tensor: str) -> str:
        return f"{tensor}.real" if tensor in self.affines else tensor
