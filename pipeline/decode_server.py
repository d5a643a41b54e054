"""What the fork server loads before it makes decode processes: torch and the decoder, once, in a thread-free process.

It ties its own life to the process that started it: the decoders die with it, so nothing outlives a killed run.
"""

import os

from PIL import Image

from models.spec import Preprocessing
from pipeline.children import die_with_parent, importing

with importing():
    import torch.utils.data

    import pipeline.decoder_process
    import pipeline.resize

PRELOADED = (torch.utils.data, pipeline.decoder_process)


def _warm_up() -> None:
    """Load Pillow's usual formats and what the first resize loads: else each decode process would."""
    torch.set_num_threads(1)
    Image.preinit()
    nothing = Preprocessing(2, 1, "bicubic", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    pipeline.resize.centre_square(Image.new("RGB", (2, 2)), nothing)


_warm_up()
die_with_parent(os.getppid())
