"""Importing this loads all that a decode process needs, and does once what each would have to do first."""

from __future__ import annotations

from pipeline.system.child_process import importing

with importing():
    from PIL import Image

    import pipeline.loading.data_loader
    from models.spec import Crop
    from pipeline.decoding.resize import centre_square

LOADED = pipeline.loading.data_loader


def _warm_up() -> None:
    """Load Pillow's usual formats and what the first resize loads."""
    Image.preinit()
    centre_square(Image.new("RGB", (2, 2)), Crop(2, 1, "bicubic"))


_warm_up()
