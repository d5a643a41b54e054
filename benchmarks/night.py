"""The time of `label-job run` on a usual night: 200,000 unchanged rows and 50 new photos.

python benchmarks/night.py [--rows 200000] [--new 50]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pyarrow as pa

from models.cache import ensure_artifact
from pipeline.records import Row
from pipeline.tables.schema import to_batch
from pipeline.tables.writer import export

MODEL = "efficientnet_lite0"
PER_FOLDER = 1000
LINKS_PER_FILE = 20_000


def main() -> None:
    """Make the folder and the table, run the job, print the time of each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--new", type=int, default=50)
    arguments = parser.parse_args()
    artifact = ensure_artifact(MODEL, print)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = make_photos(root / "photos", arguments.rows)
        export(batches(root / "photos", names, artifact.model_id), root / "labels.parquet", 3)
        (root / "night.toml").write_text('[[task]]\nname = "night"\nphotos = "photos"\noutput = "labels.parquet"\n')
        run_night(root, "nothing new")
        for night in range(3):
            print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
            run_two(root / f"two-{night}")
            add_new(root / "photos", arguments.new, night)
            run_night(root, f"{arguments.new} new")


def make_photos(photos: Path, count: int) -> list[str]:
    """The names of `count` hard links to a few files; the run lists them and opens none."""
    names = [f"{index // PER_FOLDER:04d}/{index:07d}.jpg" for index in range(count)]
    source = photos
    for index, name in enumerate(names):
        path = photos / name
        if index % PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        if index % LINKS_PER_FILE == 0:
            path.write_bytes(b"never opened")
            source = path
        else:
            os.link(source, path)
    return names


def batches(photos: Path, names: list[str], model_id: str) -> Iterator[pa.RecordBatch]:
    """Batches of rows that match these files, so that none is labelled again."""
    now_us = time.time_ns() // 1000
    for begin in range(0, len(names), 8192):
        rows = []
        for name in names[begin : begin + 8192]:
            status = (photos / name).stat()
            digest = hashlib.sha256(name.encode()).hexdigest()
            labels, probabilities = ("tabby", "tiger cat", "Egyptian cat"), (0.7, 0.2, 0.05)
            mtime_us = status.st_mtime_ns // 1000
            rows.append(
                Row(name, None, labels, probabilities, 640, 480, status.st_size, mtime_us, digest, model_id, now_us)
            )
        yield to_batch(rows, 3)


def add_new(photos: Path, count: int, night: int) -> None:
    """Add copies of scikit-image's photos, each with different bytes."""
    data = resources.files("skimage") / "data"
    sources = [data / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]
    for index in range(count):
        source = sources[index % len(sources)]
        content = source.read_bytes() + f"{night} {index}".encode()
        (photos / f"new-{night}-{index:03d}{Path(source.name).suffix}").write_bytes(content)


def run_two(root: Path) -> None:
    """Run a job of two photos, whose time is that of starting all processes on this machine."""
    (root / "photos").mkdir(parents=True)
    add_new(root / "photos", 2, 0)
    (root / "night.toml").write_text('[[task]]\nname = "two"\nphotos = "photos"\noutput = "labels.parquet"\n')
    run_night(root, "a job of two photos alone")


def run_night(root: Path, name: str) -> None:
    """Run the job; print its time as seen from the shell, and the time of labelling in it."""
    command = [shutil.which("label-job", path=str(Path(sys.executable).parent)) or "label-job", "run", "night.toml"]
    began_s, cpu_before_s = time.monotonic(), children_cpu_s()
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    took_s, cpu_s = time.monotonic() - began_s, children_cpu_s() - cpu_before_s
    (task,) = json.loads((root / "night.summary.json").read_text())["tasks"]
    labelling_s = task["labelled"] / task["images_per_s"] if task["images_per_s"] else 0.0
    print(
        f"{task['unchanged']} unchanged, {name}: {took_s:.1f} s in all, of which labelling {labelling_s:.1f} s"
        f" ({task['labelled']} labelled, {task['failed']} failed); {cpu_s:.1f} s of CPU"
    )


def children_cpu_s() -> float:
    """CPU time of all child processes that have ended; other load on the machine hardly changes it."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
