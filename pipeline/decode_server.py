"""What the fork server loads before it makes decode processes: torch and the decoder, once, in a thread-free process.

It ties its own life to the process that started it: the decoders die with it, so nothing outlives a killed run.
"""

import os

import torch.utils.data

import pipeline.decoder_process
import pipeline.resize
from pipeline.children import die_with_parent

PRELOADED = (torch.utils.data, pipeline.decoder_process, pipeline.resize)

die_with_parent(os.getppid())
