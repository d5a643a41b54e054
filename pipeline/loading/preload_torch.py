"""Importing this module loads all that a worker of torch's DataLoader needs, and does its first work once."""

from __future__ import annotations

from pipeline.loading.fork_server import garbage_collector_paused

with garbage_collector_paused():
    import torch
    import torch.utils.data

    import pipeline.loading.preload

LOADED = (torch.utils.data, pipeline.loading.preload)

torch.set_num_threads(1)
