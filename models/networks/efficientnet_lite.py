"""EfficientNet-Lite: EfficientNet without squeeze-and-excite and with ReLU6, so that int8 costs little accuracy.

Sources: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the Lite variants
as published with TensorFlow's TPU models in 2020. Layer names follow the published PyTorch checkpoints, so that their
state dicts load strictly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH_NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


@dataclass(frozen=True, slots=True)
class Stage:
    """`repeats` blocks with the same kernel (pixels), output channels and expansion; the first block has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
# name -> (width multiplier, depth multiplier, input side in pixels)
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
}


def rounded_channels(channels: int, width: float) -> int:
    """The multiple of 8 nearest to `channels * width`, or the next one where that is more than a tenth below."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def same_padding(side: int, kernel: int, stride: int) -> tuple[nn.Module, int]:
    """TensorFlow's "same" padding: a module that pads before the convolution, and the convolution's own padding.

    An odd padding has its extra pixel at the right and the bottom, which a convolution's own padding cannot have.
    """
    total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    before, after = total // 2, total - total // 2
    return (nn.Identity(), before) if before == after else (nn.ZeroPad2d((before, after, before, after)), 0)


class Block(nn.Module):
    """A mobile inverted bottleneck (Sandler et al., "MobileNetV2", 2018): expand, depthwise, project, and a shortcut
    where input and output have the same shape."""

    def __init__(self, channels_in: int, stage: Stage, channels_out: int, stride: int, side: int):
        super().__init__()
        inner = channels_in * stage.expansion
        self.shortcut = stride == 1 and channels_in == channels_out
        self.expands = stage.expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(channels_in, inner, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(inner, BATCH_NORM_EPSILON)
        self._pad, padding = same_padding(side, stage.kernel, stride)
        self._depthwise_conv = nn.Conv2d(inner, inner, stage.kernel, stride, padding, groups=inner, bias=False)
        self._bn1 = nn.BatchNorm2d(inner, BATCH_NORM_EPSILON)
        self._project_conv = nn.Conv2d(inner, channels_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels_out, BATCH_NORM_EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [n, channels_in, h, w] -> float32 [n, channels_out, h / stride, w / stride]."""
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(self._pad(y))))
        y = self._bn2(self._project_conv(y))
        return torch.add(x, y) if self.shortcut else y


class EfficientNetLite(nn.Module):
    """float32 [n, 3, side, side], normalised -> logits float32 [n, classes]."""

    def __init__(self, width: float, depth: float, side: int, classes: int = 1000):
        super().__init__()
        self._pad, padding = same_padding(side, 3, 2)
        self._conv_stem = nn.Conv2d(3, STEM_CHANNELS, 3, 2, padding, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM_CHANNELS, BATCH_NORM_EPSILON)
        side, channels = math.ceil(side / 2), STEM_CHANNELS
        blocks: list[Block] = []
        for index, stage in enumerate(STAGES):
            fixed = index in (0, len(STAGES) - 1)
            repeats = stage.repeats if fixed else math.ceil(stage.repeats * depth)
            channels_out = rounded_channels(stage.channels, width)
            for repeat in range(repeats):
                stride = stage.stride if repeat == 0 else 1
                blocks.append(Block(channels, stage, channels_out, stride, side))
                side, channels = math.ceil(side / stride), channels_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(HEAD_CHANNELS, BATCH_NORM_EPSILON)
        self._fc = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [n, 3, side, side] -> logits float32 [n, classes]."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(self._pad(x))))
        for block in self._blocks:
            x = block(x)
        x = nn.functional.relu6(self._bn1(self._conv_head(x)))
        return self._fc(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def efficientnet_lite(name: str, classes: int = 1000) -> EfficientNetLite:
    """The network called `name`, with random weights."""
    width, depth, side = VARIANTS[name]
    return EfficientNetLite(width, depth, side, classes)
