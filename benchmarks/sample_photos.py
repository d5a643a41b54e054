"""Folders of photos to measure with: the user's own, or those that scikit-image ships, in any number and size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from importlib import resources
from itertools import cycle
from pathlib import Path

from PIL import Image

_SHIPPED = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "motorcycle_right", "hubble_deep_field")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
_JPEG_QUALITY = 90


def source_photos(folder: Path | None) -> list[Path]:
    """The photos below `folder` or, without a folder, the colour photos that scikit-image ships."""
    if folder is not None:
        return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    with resources.as_file(resources.files("skimage") / "data") as data:
        return sorted(path for path in data.iterdir() if path.stem in _SHIPPED and path.suffix in _SUFFIXES)


def make_folder(folder: Path, photos: Iterable[Path], count: int, megapixels: float | None) -> Path:
    """`folder`, filled with `count` photos: each of `photos` once, then links to them by other names.

    With `megapixels`, each photo is resized to that size and stored as JPEG; without, its file is copied.
    """
    folder.mkdir(parents=True)
    originals: list[Path] = []
    for index, photo in enumerate(photos):
        if index == count:
            break
        suffix = photo.suffix if megapixels is None else ".jpg"
        target = folder / f"{index:07d}{suffix}"
        if megapixels is None:
            shutil.copyfile(photo, target)
        else:
            _resized(photo, megapixels).save(target, quality=_JPEG_QUALITY)
        originals.append(target)
    for index, original in zip(range(len(originals), count), cycle(originals), strict=False):
        os.link(original, folder / f"{index:07d}{original.suffix}")
    return folder


def _resized(photo: Path, megapixels: float) -> Image.Image:
    with Image.open(photo) as image:
        width, height = image.size
        scale = (megapixels * 1e6 / (width * height)) ** 0.5
        return image.convert("RGB").resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
