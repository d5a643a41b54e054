"""What the fork server loads where it is a program of its own: torch and the decoder, once, in a thread-free process.

It ties its own life to the process that started it: the decoders die with it, so nothing outlives a killed run.
"""

import os

from models.lifeline import die_with_parent
from pipeline.children import importing

# Before the import, which takes seconds in which the parent may be killed.
die_with_parent(os.getppid())

with importing():
    import pipeline.decode_warm_up

PRELOADED = pipeline.decode_warm_up.LOADED
