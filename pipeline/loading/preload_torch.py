"""Importing this loads all that a process of torch's DataLoader needs, and does once what each would do first."""

from __future__ import annotations

from pipeline.system.child_process import importing

with importing():
    import torch
    import torch.utils.data

    import pipeline.loading.preload

LOADED = (torch.utils.data, pipeline.loading.preload)

torch.set_num_threads(1)
