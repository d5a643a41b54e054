"""The time from a photo being complete in the inbox to its row being readable: `python benchmarks/watch_lag.py`.

Photos of `--photos` (default: the demo photos of scikit-image) arrive ten a second, copied or renamed into the inbox. A
reader looks at the parts every 20 ms, as a dashboard would.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

RUNS = {
    "default options, copied in": ([], False, "flush 2 s + settle 2 s + 0.5 s", 4.5),
    "--flush 0.2s, renamed in": (["--flush", "0.2s"], True, "0.6 s", 0.6),
}


class Reader(threading.Thread):
    """Records the first time at which each name can be read from the parts."""

    def __init__(self, labels: Path) -> None:
        super().__init__(daemon=True)
        self._labels = labels
        self._seen: dict[Path, int] = {}
        self.readable_at: dict[str, float] = {}
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.02):
            for part in self._labels.glob("date=*/part-*.parquet"):
                if self._seen.get(part) != (stamp := part.stat().st_mtime_ns):
                    self._seen[part] = stamp
                    with pq.ParquetFile(part) as file:
                        names = [str(name) for name in file.read(["file_name"])["file_name"].to_pylist()]
                    now = time.monotonic()
                    for name in names:
                        self.readable_at.setdefault(name, now)


def photos(folder: Path | None) -> list[Path]:
    """Up to 200 real photos to send."""
    if folder is None:
        folder = Path(str(resources.files("skimage") / "data"))
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:200]


def run(folder: Path, options: list[str], renamed: bool, sources: list[Path], count: int, per_s: float) -> list[float]:
    """The lag of each of `count` photos in seconds."""
    inbox, labels = folder / "inbox", folder / "labels"
    inbox.mkdir()
    with (folder / "log").open("w") as log:
        command = [str(Path(sys.executable).with_name("watch-folder")), str(inbox), str(labels), *options]
        process = subprocess.Popen(command, stderr=log)
        while "watching by" not in (folder / "log").read_text():
            time.sleep(0.1)
        reader = Reader(labels)
        reader.start()
        whole_at: dict[str, float] = {}
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begin + number / per_s - time.monotonic()))
            source = sources[number % len(sources)]
            name = f"{number:05d}{source.suffix}"
            place = folder / name if renamed else inbox / name
            place.write_bytes(source.read_bytes())
            if renamed:
                place.rename(inbox / name)
            whole_at[name] = time.monotonic()
        while len(reader.readable_at) < count and time.monotonic() < begin + count / per_s + 60:
            time.sleep(0.1)
        reader.is_over.set()
        process.terminate()
        process.wait()
    return [reader.readable_at[name] - at for name, at in whole_at.items()]


def main() -> None:
    """Measure and print both runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--per-second", type=float, default=10.0)
    arguments = parser.parse_args()
    sources = photos(arguments.photos)
    print(f"{arguments.count} photos at {arguments.per_second:g}/s, load average {os.getloadavg()[0]:.1f}")
    for name, (options, renamed, words, goal_s) in RUNS.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
            lags = run(Path(folder), options, renamed, sources, arguments.count, arguments.per_second)
            p50, p95 = np.percentile(lags, [50, 95])
            verdict = "met" if p95 < goal_s else "MISSED"
            print(
                f"{name:<28} p50 {p50:.2f} s  p95 {p95:.2f} s  most {max(lags):.2f} s  (p95 under {words}: {verdict})"
            )


if __name__ == "__main__":
    main()
