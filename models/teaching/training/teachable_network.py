"""An EfficientNet-Lite whose batch norms are folded into its convolutions, so that a CPU trains it in minutes.

The stem, the first blocks and all depthwise weights stay as published; pointwise weights, biases and the head are
trained. torch's input gradient of a depthwise convolution on CPUs takes most of a step, so that gradient is computed
as what it is: a depthwise convolution of the output's gradient with the flipped kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.networks.checkpoint import StateDict
from models.networks.efficientnet_lite import BATCH_NORM_EPSILON, Block, EfficientNetLite, efficientnet_lite
from models.teaching.training.rounding import Rounding

FROZEN_BLOCKS = 5


class DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution with frozen weights: gradients for its input and its bias only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        """float [n, channels, h, w], weight [channels, 1, k, k], bias [channels] -> float [n, channels, h', w']."""
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, x.shape[2:]
        return nn.functional.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The output's gradient -> the input's and the bias's."""
        (gradient,) = gradients
        (weight,) = ctx.saved_tensors
        bias = gradient.sum((0, 2, 3), dtype=torch.float32) if ctx.needs_input_grad[2] else None
        if not ctx.needs_input_grad[0]:
            return None, None, bias, None, None
        height, width = ctx.size
        border = weight.shape[-1] - 1 - ctx.padding
        if ctx.stride > 1:
            lost = weight.shape[-1] - 1 - 2 * ctx.padding
            shape = (*gradient.shape[:2], height - lost, width - lost)
            spread = torch.zeros(shape, dtype=gradient.dtype).contiguous(memory_format=torch.channels_last)
            spread[:, :, :: ctx.stride, :: ctx.stride] = gradient
            gradient = spread
        flipped = weight.flip(2, 3)
        return nn.functional.conv2d(gradient, flipped, None, 1, border, groups=len(weight)), None, bias, None, None


class FoldedConvolution(nn.Module):
    """A convolution with its batch norm folded in, a ReLU6 after it where `activated`."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, pad: nn.Module | None, activated: bool):
        super().__init__()
        assert norm.running_var is not None and norm.running_mean is not None
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight = nn.Parameter((convolution.weight * factor[:, None, None, None]).detach().clone())
        self.bias = nn.Parameter((norm.bias - norm.running_mean * factor).detach().clone())
        self.stride, self.padding = int(convolution.stride[0]), int(convolution.padding[0])
        self.groups, self.activated = convolution.groups, activated
        self.pad = pad if isinstance(pad, nn.ZeroPad2d) else None
        self.rounding: Rounding | None = None

    def forward(self, x: Tensor) -> Tensor:
        """float [n, channels_in, h, w] -> float [n, channels_out, h / stride, w / stride]."""
        if self.pad is not None:
            x = self.pad(x)
        weight = self.weight if self.rounding is None else self.rounding.weights(self.weight)
        if self.groups > 1:
            y = DepthwiseConvolution.apply(x, weight.to(x.dtype), self.bias.to(x.dtype), self.stride, self.padding)
        else:
            y = nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding)
        y = nn.functional.relu6(y) if self.activated else y
        return y if self.rounding is None else self.rounding.output(y)


class FoldedBlock(nn.Module):
    """A mobile inverted bottleneck of folded convolutions."""

    def __init__(self, block: Block):
        super().__init__()
        layers = [FoldedConvolution(block._expand_conv, block._bn0, None, True)] if block.expands else []
        layers.append(FoldedConvolution(block._depthwise_conv, block._bn1, block._pad, True))
        layers.append(FoldedConvolution(block._project_conv, block._bn2, None, False))
        self.layers, self.shortcut = nn.Sequential(*layers), block.shortcut

    def forward(self, x: Tensor) -> Tensor:
        """float [n, channels_in, h, w] -> float [n, channels_out, h / stride, w / stride]."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class TeachableNetwork(nn.Module):
    """float32 [n, 3, side, side], normalised -> logits float32 [n, classes].

    With `recomputes`, a block computes what its gradient needs once more, and keeps only its input until then. With
    `rounds`, convolutions round as int8 does, in float32. `uses_bfloat16` tells the training what to compute in.
    """

    def __init__(self, name: str, published: StateDict, classes: int):
        super().__init__()
        base = efficientnet_lite(name)
        base.load_state_dict(published)
        self.name = name
        self.stem = FoldedConvolution(base._conv_stem, base._bn0, base._pad, True)
        self.blocks = nn.ModuleList(FoldedBlock(block) for block in base._blocks if isinstance(block, Block))
        self.top = FoldedConvolution(base._conv_head, base._bn1, None, True)
        self.head = nn.Linear(base._fc.in_features, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.recomputes, self.uses_bfloat16 = False, False
        self.taught_head = (self.head.weight.detach(), self.head.bias.detach())
        self._freeze()

    def _freeze(self) -> None:
        for module in (self.stem, *self.blocks[:FROZEN_BLOCKS]):
            module.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, FoldedConvolution) and module.groups > 1:
                module.weight.requires_grad_(False)

    @property
    def rounds(self) -> bool:
        """Whether convolutions round their weights and outputs as int8 does."""
        return self.stem.rounding is not None

    @rounds.setter
    def rounds(self, wanted: bool) -> None:
        for module in self.modules():
            if isinstance(module, FoldedConvolution):
                module.rounding = Rounding() if wanted else None

    def frozen_part(self, x: Tensor) -> Tensor:
        """What the trained part reads, without gradients: float [n, channels, h, w]."""
        with torch.no_grad():
            x = self.stem(x)
            for block in self.blocks[:FROZEN_BLOCKS]:
                x = block(x)
        return x

    def features(self, x: Tensor) -> Tensor:
        """What the head reads: float32 [n, 1280]."""
        x = self.frozen_part(x)
        for block in self.blocks[FROZEN_BLOCKS:]:
            is_kept = not (self.recomputes and torch.is_grad_enabled())
            x = block(x) if is_kept else checkpoint(block, x, use_reentrant=False)
        top: Tensor = self.top(x)
        return top.float().mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [n, 3, side, side] -> logits float32 [n, classes]."""
        return self.head(self.features(x))  # type: ignore[no-any-return]

    def published_form(self) -> StateDict:
        """The weights as a state dict of `efficientnet_lite`: batch norms that add the biases and do nothing else."""
        base: EfficientNetLite = efficientnet_lite(self.name, self.head.out_features)
        for folded, convolution, norm in self._pairs(base):
            _unfold(folded, convolution, norm)
        base._fc.load_state_dict(self.head.state_dict())
        return base.state_dict()

    def load_published_form(self, state: StateDict) -> None:
        """Take the weights of a state dict that `published_form` gave; the head, which may be of other classes, is
        kept as `taught_head`."""
        base = efficientnet_lite(self.name, len(state["_fc.weight"]))
        base.load_state_dict(state)
        with torch.no_grad():
            for folded, convolution, norm in self._pairs(base):
                folded.weight.copy_(convolution.weight)
                folded.bias.copy_(norm.bias)
        self.taught_head = (base._fc.weight.detach(), base._fc.bias.detach())

    def _pairs(self, base: EfficientNetLite) -> Iterator[tuple[FoldedConvolution, nn.Conv2d, nn.BatchNorm2d]]:
        """Each folded convolution with the two layers of `base` that it stands for."""
        yield self.stem, base._conv_stem, base._bn0
        for folded, block in zip(self.blocks, base._blocks, strict=True):
            assert isinstance(folded, FoldedBlock) and isinstance(block, Block)
            pairs = [(block._depthwise_conv, block._bn1), (block._project_conv, block._bn2)]
            if block.expands:
                pairs.insert(0, (block._expand_conv, block._bn0))
            for layer, (convolution, norm) in zip(folded.layers, pairs, strict=True):
                assert isinstance(layer, FoldedConvolution)
                yield layer, convolution, norm
        yield self.top, base._conv_head, base._bn1


def _unfold(folded: FoldedConvolution, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    with torch.no_grad():
        convolution.weight.copy_(folded.weight)
        norm.weight.fill_(1.0)
        norm.bias.copy_(folded.bias)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - BATCH_NORM_EPSILON)
