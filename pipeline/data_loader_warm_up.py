"""Importing this loads all that a process of torch's DataLoader needs, and does once what each would do first."""

from __future__ import annotations

from pipeline.children import importing

with importing():
    import torch
    import torch.utils.data

    import pipeline.decode_warm_up

LOADED = (torch.utils.data, pipeline.decode_warm_up)

torch.set_num_threads(1)
