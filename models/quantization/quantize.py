"""fp32 graph and calibration -> int8 graph in QDQ form (QuantizeLinear and DequantizeLinear pairs).

Activations are uint8 with a zero point, per tensor; weights int8, symmetric, per output channel; biases int32: Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018. Rounding the
weights shifts a layer's mean output; its bias is corrected by that shift: Nagel et al., "Data-Free Quantization through
Weight Equalization and Bias Correction", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from models.networks.graph import PHOTO_TENSOR, Array, Graph
from models.quantization.calibration_table import Calibration
from models.quantization.layers import QUANTIZED_OPERATORS, SHARED_RANGE_OPERATORS, Layer, fused_activations, layer
from models.quantization.weight_rounding import WeightRange, channel_scales, quantize_weights

UINT8_STEPS = 255
# The photo's zero point may differ from a channel's mean by this many standard deviations. Padding, which is zero in
# fp32, has an error of the same size.
LARGEST_BORDER_SHIFT = 0.02


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to quantize a graph: the range of its weights, and the nodes (by output name) that stay in fp32."""

    weight_range: WeightRange
    float_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Affine:
    """The real numbers that a uint8 tensor stands for: scale * (integer - zero_point)."""

    scale: np.float32
    zero_point: int


def affine(low: float, high: float) -> Affine:
    """The map whose uint8 range covers [low, high] and zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max(high - low, 1e-6) / UINT8_STEPS)
    return Affine(scale, int(np.clip(np.rint(-low / scale), 0, UINT8_STEPS)))


@dataclass(frozen=True, slots=True)
class PhotoInput:
    """A uint8 photo as the network's quantized input: its affine map plus a shift per channel is the fp32 input."""

    affine: Affine
    shifts: tuple[float, ...]


def photo_input(mean: tuple[float, ...], std: tuple[float, ...]) -> PhotoInput | None:
    """The photo as the network's quantized input, or None where one scale and zero point do not fit all channels."""
    if len(set(std)) != 1:
        return None
    zero_point = round(sum(mean) / len(mean))
    shifts = tuple((zero_point - value) / std[0] for value in mean)
    if max(abs(shift) for shift in shifts) > LARGEST_BORDER_SHIFT:
        return None
    return PhotoInput(Affine(np.float32(1 / std[0]), zero_point), shifts)


class Quantizer:
    """Writes the int8 form of one graph, node by node."""

    def __init__(self, graph: Graph, calibration: Calibration, recipe: Recipe, photo: PhotoInput | None):
        self.graph, self.calibration, self.recipe = graph, calibration, recipe
        self.fused = fused_activations(graph)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.affines: dict[str, Affine] = {}
        self.photo = photo

    def run(self) -> Graph:
        """The int8 graph. Its input is uint8 PHOTO_TENSOR [n, c, h, w] where the photo is the quantized input."""
        input_name = self.graph.input_name
        if self.photo is not None:
            self._dequantize(input_name, self.photo.affine, PHOTO_TENSOR)
        elif input_name in self.calibration.ranges:
            self._quantize(input_name, affine(*self.calibration.ranges[input_name]))
        for node in self.graph.nodes:
            self._write(node)
        name = PHOTO_TENSOR if self.photo is not None else input_name
        return replace(self.graph, nodes=self.nodes, constants=self.constants, input_name=name)

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
        """Whether uint8 saturation does the same as the following activation: the range must begin at zero."""
        activated = self.fused.get(output)
        if activated is None or activated not in self.calibration.ranges or output in self.recipe.float_nodes:
            return False
        return self.calibration.ranges[activated][0] >= 0.0

    def _quantize_if_ranged(self, tensor: str) -> None:
        if tensor in self.calibration.ranges and tensor != self.graph.output_name:
            self._quantize(tensor, affine(*self.calibration.ranges[tensor]))

    def _quantize(self, tensor: str, scale: Affine, written: str | None = None) -> None:
        """Add QuantizeLinear and DequantizeLinear for a tensor (its values are those of `written`, if given); nodes
        that read the tensor then read the output of DequantizeLinear."""
        inputs = [written or tensor, f"{tensor}.scale", f"{tensor}.zero"]
        self.nodes.append(helper.make_node("QuantizeLinear", inputs, [f"{tensor}.uint8"]))
        self._dequantize(tensor, scale, f"{tensor}.uint8")

    def _dequantize(self, tensor: str, scale: Affine, integers: str) -> None:
        self.constants[f"{tensor}.scale"] = np.asarray(scale.scale)
        self.constants[f"{tensor}.zero"] = np.asarray(scale.zero_point, np.uint8)
        inputs = [integers, f"{tensor}.scale", f"{tensor}.zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{tensor}.real"]))
        self.affines[tensor] = scale

    def _weight_inputs(self, weighted: Layer) -> list[str]:
        """The names of a layer's dequantized weights and bias, whose int8 and int32 values become constants."""
        name, source = weighted.node.output[0], weighted.node.input[0]
        scale = self.affines[source]
        bias = weighted.bias
        if source == self.graph.input_name and self.photo is not None:
            bias = bias + weighted.mean_output(weighted.weights, np.asarray(self.photo.shifts))
        mean_input = np.asarray(self.calibration.means[source])
        smallest = channel_scales(weighted.weights, self.recipe.weight_range, weighted.tap_orders())
        values, scales = quantize_weights(
            weighted.weights, bias, float(scale.scale), smallest, weighted.mean_taps(mean_input)
        )
        change = values * scales.astype(np.float64)[:, None] - weighted.weights
        bias = bias - weighted.mean_output(change, mean_input)
        bias_scales = scale.scale * scales
        self.constants[f"{name}.weight"] = weighted.in_graph_layout(values)
        self.constants[f"{name}.weight_scale"] = scales
        # Zero is the default, but without this input onnxruntime computes a fully connected layer in fp32, where the
        # last bit of a photo's logits depends on the size of its batch.
        self.constants[f"{name}.weight_zero"] = np.zeros_like(scales, np.int8)
        self.constants[f"{name}.bias"] = np.rint(bias / bias_scales).astype(np.int32)
        self.constants[f"{name}.bias_scale"] = bias_scales
        for part, axis, more in (("weight", weighted.axis, [f"{name}.weight_zero"]), ("bias", 0, [])):
            inputs = [f"{name}.{part}", f"{name}.{part}_scale", *more]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.{part}_real"], axis=axis))
        return [f"{name}.weight_real", f"{name}.bias_real"]

    def _copy(self, node: onnx.NodeProto, inputs: list[str], output: str) -> None:
        copy = helper.make_node(node.op_type, inputs, [output, *node.output[1:]])
        copy.domain = node.domain
        copy.attribute.extend(node.attribute)
        self.nodes.append(copy)
        self.constants |= {name: self.graph.constants[name] for name in inputs if name in self.graph.constants}

    def _read(self, tensor: str) -> str:
        return f"{tensor}.real" if tensor in self.affines else tensor
