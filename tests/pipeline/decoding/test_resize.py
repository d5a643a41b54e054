"""Resizing gives the pixels of torch's antialiased resize of uint8, to the byte, without torch."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.spec import Crop, Interpolation
from pipeline.decoding.resize import centre_square, resize

SIZES = [(1, 1), (1, 300), (37, 2), (224, 224), (225, 223), (328, 328), (448, 333), (447, 896), (301, 1100)]
DISTRIBUTIONS = ["noise", "black and white"]

Pixels = NDArray[np.uint8]


def photo(height: int, width: int, distribution: str = "noise") -> Pixels:
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels if distribution == "noise" else np.where(pixels > 127, 255, 0).astype(np.uint8)


def resized_by_torch(pixels: Pixels, side: int, interpolation: Interpolation) -> Pixels:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(tensor, size=(side, side), mode=interpolation, antialias=True)
    result: Pixels = resized[0].permute(1, 2, 0).numpy()
    return result


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [1, 13, 224, 300])
def test_the_pixels_are_those_of_torch(side: int, interpolation: Interpolation) -> None:
    for (height, width), distribution in product(SIZES, DISTRIBUTIONS):
        # Beyond a hundredfold torch's weights have one more bit, and no photo is resized so far in one step.
        pixels = photo(min(height, side * 100), min(width, side * 100), distribution)
        expected = resized_by_torch(pixels, side, interpolation)
        assert np.array_equal(resize(pixels, side, interpolation), expected), (pixels.shape, distribution)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_pixels_are_those_of_torch_at_every_ratio_that_a_photo_can_have(interpolation: Interpolation) -> None:
    for side in range(1, 1130, 7):
        pixels = photo(side, min(2 * side, 1130))
        assert np.array_equal(resize(pixels, 224, interpolation), resized_by_torch(pixels, 224, interpolation)), side


def test_a_photo_of_12_megapixels_is_resized_as_by_torch() -> None:
    pixels = photo(3000, 4000)
    assert np.array_equal(resize(pixels, 224, "bicubic"), resized_by_torch(pixels, 224, "bicubic"))


def test_no_side_is_shrunk_more_than_fivefold_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios: list[float] = []

    def noting(pixels: Pixels, side: int, interpolation: Interpolation) -> Pixels:
        ratios.append(max(pixels.shape[:2]) / side)
        return resize(pixels, side, interpolation)

    monkeypatch.setattr("pipeline.decoding.resize.resize", noting)
    for crop_size, length in product((1, 2, 3, 8, 224), (1, 2, 3, 5, 9, 100, 895, 896, 897, 5000)):
        photo_of_length = Image.new("RGB", (length, length + 1))
        centre_square(photo_of_length, Crop(crop_size + crop_size // 8, crop_size, "bicubic"))
    assert max(ratios) <= 5


def test_pixels_that_are_not_contiguous_are_resized_like_a_copy() -> None:
    every_second = photo(100, 100)[::2, ::2]
    assert np.array_equal(resize(every_second, 30, "bicubic"), resize(every_second.copy(), 30, "bicubic"))


def test_a_decoder_loads_nothing_of_torch() -> None:
    code = "import pipeline.loading.preload; maps = open('/proc/self/maps').read(); print('libtorch' in maps)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
