"""A user's own classes, from training to a table: folders of product photos become a certified int8 model.

    python benchmarks/shelf_head.py grocery/

Trains the last layer of EfficientNet-Lite0 on three quarters of the photos, builds and certifies it with
`label-models`, and labels the last quarter with `label-dir`, int8 and fp32.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
import torch

from jobs.workshop.photos import DecodedPhoto, decoded_sample
from models.networks.efficientnet_lite import efficientnet_lite
from models.quantization.activation_stats import normalised
from models.zoo import SPECS, find_weights

SEED = 7
STEPS = 200
PHOTOS_PER_RUN = 8
SHARE_HELD_OUT = 4
MODEL = "efficientnet_lite0"


def features(module: torch.nn.Module, photos: list[DecodedPhoto]) -> torch.Tensor:
    """The inputs of the last layer, float32 [n, 1280]."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(photos), PHOTOS_PER_RUN):
            pixels = np.stack([photo.pixels for photo in photos[start : start + PHOTOS_PER_RUN]])
            parts.append(module(torch.from_numpy(normalised(pixels, SPECS[MODEL].preprocessing.normalisation))))
    return torch.cat(parts)


def trained(photos: list[DecodedPhoto], labels: list[str]) -> dict[str, torch.Tensor]:
    """The state dict of Lite0 with a last layer trained for these labels."""
    body = efficientnet_lite(MODEL)
    body.load_state_dict(torch.load(find_weights(SPECS[MODEL].weights), weights_only=True))
    body._fc = torch.nn.Identity()  # type: ignore[assignment]  # the network now gives the inputs of its last layer
    inputs = features(body.eval(), photos)
    targets = torch.tensor([labels.index(photo.name.split("/")[0]) for photo in photos])
    torch.manual_seed(SEED)
    head = torch.nn.Linear(inputs.shape[1], len(labels))
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    state = body.state_dict()
    return {**state, "_fc.weight": head.weight.detach(), "_fc.bias": head.bias.detach()}


def run(cache: Path, *command: object) -> str:
    """The standard output of one of the project's commands."""
    program = str(Path(sys.executable).with_name(str(command[0])))
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    arguments = [program, *map(str, command[1:])]
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return done.stdout


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
def shelf_head(photos: Path) -> None:
    """Train, build, certify and label with the photos in the folders of PHOTOS."""
    drawn = list(decoded_sample(photos, SPECS[MODEL].preprocessing.crop, SEED))
    labels = sorted({photo.name.split("/")[0] for photo in drawn})
    held_out, training = drawn[::SHARE_HELD_OUT], [p for i, p in enumerate(drawn) if i % SHARE_HELD_OUT]
    started = time.perf_counter()
    state = trained(training, labels)
    print(f"{len(labels)} classes, {len(training)} photos, trained in {time.perf_counter() - started:.0f} s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, folder / "shelf.pth")
        (folder / "shelf.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
        for part, chosen in (("training", training), ("held-out", held_out)):
            for photo in chosen:
                link = folder / part / photo.name
                link.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(photos / photo.name, link)
        weights = ("--weights", folder / "shelf.pth", "--labels", folder / "shelf.txt", "--name", "shelf")
        run(folder, "label-models", "build", MODEL, *weights, "--calibrate", folder / "training", "--samples", 120)
        print(run(folder, "label-models", "certify", "shelf", "--photos", folder / "held-out"))
        for engine in ("onnxruntime", "onnxruntime-fp32"):
            out = folder / f"{engine}.parquet"
            run(folder, "label-dir", "-q", "-m", "shelf", "--engine", engine, folder / "held-out", out)
            rows = pq.read_table(out).to_pylist()
            right = np.mean([row["label_1"] == row["file_name"].split("/")[0] for row in rows])
            print(f"label-dir --engine {engine}: {right:.1%} of {len(rows)} photos right, model {rows[0]['model']}")


if __name__ == "__main__":
    shelf_head()
