"""Decoding no more pixels than needed changes no label: the same photos with and without the shortcut."""

from __future__ import annotations

import io
from importlib import resources

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.artifact import Artifact
from models.cache import ensure_artifact
from models.classifier import Classifier, TopK
from models.spec import Crop
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.records import ItemError
from pipeline.sources.read_file import ReadLimits

NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg")
MEGAPIXELS = (0.19, 2.0, 4.0)
# With its best two classes closer than this, a photo changes its label with any pixel, and shows nothing.
SURE_BY = 0.1


def shipped_photos() -> list[Image.Image]:
    """Each photo whole, and its left and right two thirds."""
    photos: list[Image.Image] = []
    for name in NAMES:
        with resources.as_file(resources.files("skimage") / "data" / name) as path, Image.open(path) as image:
            photo = image.convert("RGB")
        width, height = photo.size
        third = width // 3
        photos += [photo, photo.crop((0, 0, width - third, height)), photo.crop((third, 0, width, height))]
    return photos


def as_jpeg(photo: Image.Image, megapixels: float) -> bytes:
    scale = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
    size = (round(photo.width * scale), round(photo.height * scale))
    stream = io.BytesIO()
    photo.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def decoded(content: bytes, crop: Crop, scaled_decoding: bool) -> NDArray[np.uint8]:
    side = crop.crop_size
    pixels = np.zeros((side, side, 3), np.uint8)
    found = decode_bytes(content, DecodeRules(crop, ReadLimits(), scaled_decoding), pixels)
    assert not isinstance(found, ItemError), found
    return pixels


@pytest.fixture
def lite0(default_model_cache: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Artifact:
    for name, value in default_model_cache.items():
        monkeypatch.setenv(name, value)
    return ensure_artifact("efficientnet_lite0", lambda _: None)


def test_the_shortcut_changes_no_label_that_the_model_is_sure_of(lite0: Artifact) -> None:
    photos = [as_jpeg(photo, megapixels) for photo in shipped_photos() for megapixels in MEGAPIXELS]
    classifier = Classifier(lite0.path, 1, 2)

    def labels(scaled_decoding: bool) -> TopK:
        batch = [decoded(photo, lite0.preprocessing.crop, scaled_decoding) for photo in photos]
        return classifier.classify(np.stack(batch))

    full, short = labels(False), labels(True)
    is_sure = full.probabilities[:, 0] - full.probabilities[:, 1] > SURE_BY
    assert is_sure.sum() > len(photos) / 2
    assert (full.ids[is_sure, 0] == short.ids[is_sure, 0]).all()


@pytest.mark.parametrize("megapixels", [0.19, 2.0, 12.0])
def test_the_shortcut_gives_nearly_the_same_pixels(megapixels: float) -> None:
    crop = Crop(256, 224, "bicubic")
    photo = as_jpeg(shipped_photos()[3], megapixels)
    full, short = (decoded(photo, crop, scaled).astype(np.int16) for scaled in (False, True))
    assert np.abs(full - short).mean() < 2.5


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_resized_photo_is_what_pillow_makes_of_it(interpolation: str) -> None:
    crop = Crop(224, 224, interpolation)  # type: ignore[arg-type]
    photo = shipped_photos()[3].resize((300, 300))
    stream = io.BytesIO()
    photo.save(stream, "PNG")
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = np.asarray(photo.resize((224, 224), filters[interpolation])).astype(np.int16)
    assert np.abs(decoded(stream.getvalue(), crop, True) - expected).max() <= 1
