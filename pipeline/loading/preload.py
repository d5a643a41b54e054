"""Importing this module loads all that a decode worker needs, and does its first work once."""

from __future__ import annotations

from pipeline.loading.fork_server import garbage_collector_paused

with garbage_collector_paused():
    from PIL import Image

    import pipeline.loading.data_loader
    from models.spec import Preprocessing
    from pipeline.decoding.resize import centre_square

LOADED = pipeline.loading.data_loader


def _warm_up() -> None:
    """Load Pillow's usual formats and what the first resize loads."""
    Image.preinit()
    centre_square(Image.new("RGB", (2, 2)), Preprocessing(2, 1, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))


_warm_up()
