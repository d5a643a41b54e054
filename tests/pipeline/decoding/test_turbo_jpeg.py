"""An undamaged JPEG gets the pixels that Pillow gives; any other JPEG is left to Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.decoding.turbo_jpeg import sound_jpeg_pixels
from tests.pipeline.decoding.test_scaled_decoding import shipped_photos

SIDE = 384
KINDS: list[dict[str, Any]] = [
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"progressive": True},
    {"quality": 30},
    {"quality": 100, "subsampling": 0},
    {"restart_marker_blocks": 3},
]


def as_jpeg(photo: Image.Image, **kind: Any) -> bytes:
    stream = io.BytesIO()
    photo.save(stream, "JPEG", **kind)
    return stream.getvalue()


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    image.draft("RGB", (SIDE, SIDE))
    return image


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (501, 333), (1203, 799), (1601, 3205), (3300, 3200)], ids=str)
def test_a_sound_jpeg_has_the_pixels_that_pillow_gives_it(size: tuple[int, int], kind: dict[str, Any]) -> None:
    content = as_jpeg(shipped_photos()[0].resize(size), **kind)
    pixels = sound_jpeg_pixels(content, opened(content))
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(opened(content)))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_of_other_colours_is_left_to_pillow(mode: str) -> None:
    content = as_jpeg(shipped_photos()[0].convert(mode))
    assert sound_jpeg_pixels(content, opened(content)) is None


def test_a_jpeg_that_ends_early_is_left_to_pillow() -> None:
    content = as_jpeg(shipped_photos()[0])
    for end in (len(content) // 2, len(content) * 9 // 10, len(content) - 2):
        assert sound_jpeg_pixels(content[:end], opened(content)) is None


def test_a_damaged_jpeg_has_the_pixels_that_pillow_gives_it_or_is_left_to_pillow() -> None:
    whole = as_jpeg(shipped_photos()[0].resize((200, 150)))
    generator = np.random.default_rng(0)
    left_to_pillow = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[int(generator.integers(700, len(whole) - 2))] ^= int(generator.integers(1, 256))
        pixels = sound_jpeg_pixels(bytes(damaged), opened(whole))
        if pixels is None:
            left_to_pillow += 1
        else:
            assert np.array_equal(pixels, np.asarray(opened(bytes(damaged))))
    assert 0 < left_to_pillow < 200
