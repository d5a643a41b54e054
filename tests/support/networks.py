"""A convolutional network of a few kilobytes in torch, and images for it, for tests without pretrained weights."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.networks.graph import Graph
from models.networks.network import Network
from models.networks.torch_export import export_graph
from models.samples import generated_images
from models.spec import Crop, Normalisation, Preprocessing

SIDE = 32
CLASSES = 5
MIDDLE = Preprocessing(Crop(36, SIDE, "bicubic"), Normalisation((127.5,) * 3, (127.5,) * 3))
PER_CHANNEL = Preprocessing(
    Crop(36, SIDE, "bilinear"), Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
)
LABELS = tuple(f"label {index}" for index in range(CLASSES))


class SmallNetwork(nn.Module):
    """Every kind of layer that is quantized: a stem, a depthwise layer, a residual sum, a pool and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.BatchNorm2d(16), nn.ReLU6())
        self.project = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [n, 3, side, side] -> logits float32 [n, CLASSES]."""
        x = self.stem(x)
        x = x + self.project(self.depthwise(x))
        return self.head(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def small_module() -> SmallNetwork:
    """The network with seeded weights; the bias of its head makes every class the label of some image."""
    torch.manual_seed(3)
    module = SmallNetwork()
    with torch.no_grad():
        module.head.weight.mul_(8)
        next(module.stem.parameters()).mul_(3)
        module.eval()
        photos = torch.from_numpy(images().transpose(0, 3, 1, 2).astype(np.float32))
        module.head.bias.sub_(module((photos - 127.5) / 127.5).mean(dim=0))
    return module


@functools.cache
def _graph() -> Graph:
    return export_graph(small_module(), SIDE)


@functools.cache
def small_network(preprocessing: Preprocessing = MIDDLE) -> Network:
    """The network with its graph in canonical form, preprocessing and labels."""
    return Network("small", _graph(), preprocessing, LABELS, {"architecture": "small", "weights_sha256": "0" * 64})


@functools.cache
def images(count: int = 40, seed: int = 1) -> npt.NDArray[np.uint8]:
    """Generated images for the network, uint8 [count, SIDE, SIDE, 3]."""
    return generated_images(count, SIDE, seed)
