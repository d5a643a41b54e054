"""A long run of `watch-folder` on small photos: memory, open files and rate. `python benchmarks/watch_soak.py`

Prints a line every ten seconds with the resident memory (shared pages counted once) and the open files of the whole
process tree. At the end it prints how much they changed after the first quarter, the memory of each kind of process,
the rates, and the CPU time of ten idle seconds.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
from PIL import Image
from process_tree import roles

_AHEAD = 2000
_PER_FOLDER = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """The process tree at one moment: `rows` are the durable rows, `memory_mb` is the memory by role of process."""

    at_s: float
    rows: int
    memory_mb: dict[str, float]
    descriptors: int

    @property
    def tree_mb(self) -> float:
        """The resident memory of the whole tree."""
        return sum(self.memory_mb.values())


def write_photos(inbox: Path, count: int, rows: list[int], is_over: threading.Event) -> None:
    """Write small noise photos, never more than 2,000 ahead of their rows."""
    random = np.random.default_rng(1)
    base = random.integers(0, 256, (64, 64, 3), np.uint8)
    for number in range(count):
        while number - rows[0] > _AHEAD and not is_over.is_set():
            time.sleep(0.02)
        if is_over.is_set():
            return
        base[0, 0] = (number & 255, number >> 8 & 255, number >> 16 & 255)
        stream = io.BytesIO()
        Image.fromarray(base).save(stream, "JPEG", quality=60)
        folder = inbox / f"{number // _PER_FOLDER:04d}"
        folder.mkdir(exist_ok=True)
        hidden = folder / ".next"
        # The number after the JPEG data makes the content of every file different.
        hidden.write_bytes(stream.getvalue() + number.to_bytes(4, "big"))
        hidden.rename(folder / f"{number:06d}.jpg")


def sample(process: psutil.Process, labels: Path, rows: list[int]) -> Sample:
    """The memory and open files of the tree now, and the number of durable rows."""
    rows[0] = sum(pq.read_metadata(part).num_rows for part in labels.glob("date=*/part-*.parquet"))
    tree = [process, *process.children(recursive=True)]
    names = roles(process.pid)
    memory_mb: dict[str, float] = {}
    for member in tree:
        role = names.get(member.pid, "helper")
        memory_mb[role] = memory_mb.get(role, 0.0) + resident_mb(member.pid)
    return Sample(time.monotonic(), rows[0], memory_mb, sum(member.num_fds() for member in tree))


def resident_mb(pid: int) -> float:
    """Resident memory of process `pid`: its share of memory that processes share, and all of the files it has mapped.

    Mapped files (libraries) are counted whole: other programs share them too, and their start and end must not change
    the figure.
    """
    kilobytes: dict[str, int] = {}
    for path in (f"/proc/{pid}/smaps_rollup", f"/proc/{pid}/status"):
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if line.endswith(" kB"):
                name, amount, _ = line.split()
                kilobytes[name] = int(amount)
    return (kilobytes["Pss_Anon:"] + kilobytes["Pss_Shmem:"] + kilobytes["RssFile:"]) * 1024 / 1e6


def idle_cpu_percent(process: psutil.Process, seconds: float = 10.0) -> float:
    """CPU time of the whole tree while no photo arrives, in percent of one core."""

    def used_s() -> float:
        return sum(sum(member.cpu_times()[:2]) for member in [process, *process.children(recursive=True)])

    before = used_s()
    time.sleep(seconds)
    return (used_s() - before) / seconds * 100


def main() -> None:
    """Start the daemon, feed it, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="End after this time, whatever the number of photos."
    )
    parser.add_argument("--option", action="append", default=[], help="An option for watch-folder.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inbox, labels = folder / "inbox", folder / "labels"
        inbox.mkdir()
        with (folder / "log").open("w") as log:
            command = [str(Path(sys.executable).with_name("watch-folder")), str(inbox), str(labels)]
            started = subprocess.Popen([*command, *arguments.option], stderr=log)
            try:
                soak(psutil.Process(started.pid), folder, arguments.count, arguments.minutes)
            finally:
                started.terminate()
                print(f"ended with {started.wait()}")


def soak(process: psutil.Process, folder: Path, count: int, minutes: float) -> None:
    """Feed the daemon, print a line every ten seconds, and the report at the end."""
    while "watching by" not in (folder / "log").read_text():
        time.sleep(0.1)
    rows = [0]
    is_over = threading.Event()
    until_s = time.monotonic() + minutes * 60
    writer = threading.Thread(target=write_photos, args=(folder / "inbox", count, rows, is_over), daemon=True)
    writer.start()
    samples: list[Sample] = []
    for turn in itertools.count():
        samples.append(sample(process, folder / "labels", rows))
        last = samples[-1]
        if turn % 10 == 0:
            print(f"{last.rows:7d} rows  {last.tree_mb:7.1f} MB  {last.descriptors} files", flush=True)
        if last.rows >= count or time.monotonic() > until_s:
            break
        time.sleep(1.0)
    is_over.set()
    writer.join()
    report(samples, last.rows)
    while json.loads((folder / ".labels.label-dir" / "status.json").read_text())["queue_depth"]:
        time.sleep(0.5)
    time.sleep(5.0)
    print(f"idle: {idle_cpu_percent(process):.2f}% of a core")


def report(samples: list[Sample], count: int) -> None:
    """Print the change of memory, open files and rate after the first quarter."""
    warm = [sample for sample in samples if sample.rows >= count / 4]
    memory = [sample.tree_mb for sample in warm]
    third = max(1, len(warm) // 3)
    first, last = warm[:third], warm[-third:]
    print(f"memory after warm-up: {min(memory):.1f} to {max(memory):.1f} MB", end=", ")
    print(f"mean of the first third {np.mean(memory[:third]):.1f}, of the last {np.mean(memory[-third:]):.1f}")
    for role in last[-1].memory_mb:
        print(
            f"  {role:<9} {first[0].memory_mb.get(role, 0.0):6.1f} MB then, {last[-1].memory_mb[role]:6.1f} at the end"
        )
    print(f"descriptors: {first[0].descriptors} then, {last[-1].descriptors} at the end")
    rates = [(part[-1].rows - part[0].rows) / max(1e-9, part[-1].at_s - part[0].at_s) for part in (first, last)]
    print(f"rate: {rates[0]:.1f} photos/s then, {rates[1]:.1f} at the end: {rates[1] / max(1e-9, rates[0]):.3f}")


if __name__ == "__main__":
    main()
