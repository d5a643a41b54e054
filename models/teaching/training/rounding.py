"""Weights and activations rounded as int8 rounds them, for quantization-aware training: gradients pass through."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_WEIGHT = 127
LEVELS = 255
# How much of a new batch's range the running range takes in.
NEW_SHARE = 0.05


class Rounding:
    """The rounding of one convolution: its weights by channel, its output by a range that follows what it sees."""

    def __init__(self) -> None:
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def weights(self, weight: Tensor) -> Tensor:
        """float32 [channels, ...] -> the same, of at most 255 values a channel, symmetric about zero."""
        scale = weight.detach().abs().amax(dim=tuple(range(1, weight.ndim))).clamp(min=1e-8) / LARGEST_WEIGHT
        zero = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST_WEIGHT, LARGEST_WEIGHT)

    def output(self, y: Tensor) -> Tensor:
        """float32 -> the same, of at most 256 values; zero is one of them. The range grows and shrinks slowly."""
        low, high = y.detach().min().clamp(max=0.0), y.detach().max().clamp(min=0.0)
        if self._low is None or self._high is None:
            self._low, self._high = low, high
        else:
            self._low, self._high = torch.lerp(self._low, low, NEW_SHARE), torch.lerp(self._high, high, NEW_SHARE)
        scale = ((self._high - self._low) / LEVELS).clamp(min=1e-8)
        zero = (-self._low / scale).round().clamp(0, LEVELS).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(y, scale, zero, 0, LEVELS)
