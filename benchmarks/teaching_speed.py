"""How fast this CPU trains, and in how much memory: the figures that models/teaching/plan.py plans with.

    python benchmarks/teaching_speed.py

Each line is a training of some steps in a process of its own, on one thread, with random pixels. Views are counted per
second of CPU time, so that other work on the machine shows less.
"""

from __future__ import annotations

import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np

from models.system.cpu_kind import this_cpu
from models.teaching.photo_set import PhotoSet
from models.zoo import SPECS

CLASSES = 81
WARM_UP_STEPS = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """A kind of training."""

    base: str
    bfloat16: bool = True
    recomputes: bool = False
    rounds: bool = False

    def __str__(self) -> str:
        extra = [text for text, is_so in (("twice", self.recomputes), ("rounded", self.rounds)) if is_so]
        return ", ".join([self.base, "bfloat16" if self.bfloat16 else "float32", *extra])


SETTINGS = (
    Setting("efficientnet_lite0"),
    Setting("efficientnet_lite0", bfloat16=False),
    Setting("efficientnet_lite0", recomputes=True),
    Setting("efficientnet_lite0", rounds=True),
    Setting("efficientnet_lite1"),
    Setting("efficientnet_lite2"),
    Setting("efficientnet_lite2", recomputes=True),
)


def pace(setting: Setting, steps: int) -> tuple[float, float]:
    """Views per second of CPU time, and the largest resident memory in MB."""
    import torch

    from models.networks.checkpoint import read_checkpoint
    from models.teaching.training.teachable_network import TeachableNetwork
    from models.teaching.training.train import TrainingRecipe, keep_freed_memory, train
    from models.zoo import find_weights

    torch.set_num_threads(1)
    keep_freed_memory()
    spec, recipe = SPECS[setting.base], TrainingRecipe()
    count = (WARM_UP_STEPS + steps) * recipe.batch_size
    side = spec.preprocessing.crop.resize_size
    random = np.random.default_rng(0)
    network = TeachableNetwork(setting.base, read_checkpoint(find_weights(spec.weights)), CLASSES)
    network.uses_bfloat16, network.recomputes, network.rounds = setting.bfloat16, setting.recomputes, setting.rounds
    began_s = 0.0

    def progress(step: int, all_steps: int) -> bool:
        nonlocal began_s
        if step == WARM_UP_STEPS:
            began_s = time.process_time()
        return True

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels"
        path.write_bytes(random.integers(0, 256, (count, side, side, 3), np.uint8).tobytes())
        names = tuple(map(str, range(count)))
        labels = tuple(map(str, range(CLASSES)))
        classes = random.integers(0, CLASSES, count)
        photos = PhotoSet(labels, names, names, classes, (None,) * count, path, side)
        one_epoch = TrainingRecipe(epochs=1)
        train(network, photos, np.arange(count), spec.preprocessing, one_epoch, float("inf"), progress)
    used_s = time.process_time() - began_s
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return steps * recipe.batch_size / used_s, memory_mb


@click.command()
@click.option("--steps", type=click.IntRange(1), default=12, show_default=True)
def teaching_speed(steps: int) -> None:
    """Print views per CPU second and memory for each kind of training."""
    click.echo(this_cpu().name)
    first = None
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for setting in SETTINGS:
            views, memory_mb = processes.submit(pace, setting, steps).result()
            first = first or views
            cost = first / views
            click.echo(f"{setting}: {views:.1f} views per CPU second, {cost:.2f} times the cost, {memory_mb:.0f} MB")


if __name__ == "__main__":
    teaching_speed()
