"""Random views of decoded photos: what a network sees of a photo in one epoch, different in the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.classifier import Pixels
from models.spec import Normalisation

SMALLEST_RATIO = 3 / 4
# Weights of red, green and blue in a grey of the same brightness (ITU-R BT.601).
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class ViewRules:
    """How far views differ from their photo: the smallest share of its area, and the largest change of brightness,
    contrast and saturation, each as a share."""

    smallest_area: float = 0.35
    colour_change: float = 0.3


def random_views(pixels: Pixels, side: int, rules: ViewRules, random: np.random.Generator) -> Tensor:
    """uint8 [n, height, width, 3] -> float32 [n, 3, side, side] in 0..255: cropped, resized, mirrored, recoloured."""
    views = torch.empty(len(pixels), 3, side, side, dtype=torch.uint8, memory_format=torch.channels_last)
    for view, photo in zip(views, pixels, strict=True):
        top, left, height, width = _box(photo.shape[0], photo.shape[1], rules.smallest_area, random)
        part = torch.from_numpy(photo[top : top + height, left : left + width]).permute(2, 0, 1)[None]
        resized = nn.functional.interpolate(part, (side, side), mode="bilinear", antialias=True)[0]
        view.copy_(resized.flip(2) if random.random() < 0.5 else resized)
    return _recoloured(views, rules.colour_change, random)


def centre_views(pixels: Pixels, side: int) -> Tensor:
    """uint8 [n, height, width, 3] -> float32 [n, 3, side, side] in 0..255: the centre, as the model will see it."""
    top, left = ((length - side) // 2 for length in pixels.shape[1:3])
    part = torch.from_numpy(np.ascontiguousarray(pixels[:, top : top + side, left : left + side]))
    return part.permute(0, 3, 1, 2).float()


def normalised(views: Tensor, normalisation: Normalisation) -> Tensor:
    """float32 [n, 3, h, w] in 0..255 -> what the network reads, channels last."""
    mean = torch.tensor(normalisation.mean).view(1, 3, 1, 1)
    std = torch.tensor(normalisation.std).view(1, 3, 1, 1)
    return ((views - mean) / std).contiguous(memory_format=torch.channels_last)


def _box(height: int, width: int, smallest_area: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a part whose area and ratio are drawn; as much as fits of it."""
    area = height * width * random.uniform(smallest_area, 1.0)
    ratio = math.exp(random.uniform(math.log(SMALLEST_RATIO), -math.log(SMALLEST_RATIO)))
    box_width = min(width, round(math.sqrt(area * ratio)))
    box_height = min(height, round(math.sqrt(area / ratio)))
    top, left = (int(random.integers(0, spare + 1)) for spare in (height - box_height, width - box_width))
    return top, left, box_height, box_width


def _recoloured(views: Tensor, change: float, random: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation of each view changed by up to `change`: one matrix and one shift a view."""
    count = len(views)
    factors = random.uniform(1 - change, 1 + change, (3, count, 1)).astype(np.float32)
    brightness, contrast, saturation = torch.from_numpy(factors)
    grey = torch.tensor(GREY)
    matrix = saturation[..., None] * torch.eye(3) + (1 - saturation[..., None]) * grey.expand(3, 3)
    real = views.float()
    mean_grey = (real.mean((2, 3)) * grey).sum(1, keepdim=True)
    matrix = (brightness * contrast)[..., None] * matrix
    shift = brightness * (1 - contrast) * mean_grey
    # As one batched product per view; a convolution with three channels would be slower.
    flat = real.permute(0, 2, 3, 1).reshape(count, -1, 3)
    turned = torch.baddbmm(shift[:, None, :], flat, matrix.transpose(1, 2)).clamp_(0, 255)
    return turned.view(count, views.shape[2], views.shape[3], 3).permute(0, 3, 1, 2)
