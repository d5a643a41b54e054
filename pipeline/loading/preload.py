"""Importing this module loads all that a decode worker needs, and does its first work once."""

from __future__ import annotations

from pipeline.loading.fork_server import garbage_collector_paused

with garbage_collector_paused():
    from PIL import Image

    import pipeline.decoding.decode
    import pipeline.loading.data_loader
    from models.spec import Crop
    from pipeline.decoding.resize import centre_square

LOADED = pipeline.loading.data_loader


def _warm_up() -> None:
    """Load Pillow's usual formats and what the first resize loads."""
    Image.preinit()
    centre_square(Image.new("RGB", (2, 2)), Crop(2, 1, "bicubic"))


_warm_up()
