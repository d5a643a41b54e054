"""How fast label-merge is, and in how much memory: parts of ranges, and tables whose names interleave.

python benchmarks/merging.py --rows 1000000
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from pipeline.tables.arrow import pa
from pipeline.tables.schema import schema
from pipeline.tables.writer import export

ROWS_PER_PART = 20_000
_PROGRAM = """
import resource, sys, time
from pathlib import Path
from jobs.scaling.merging.merge_tables import merge_tables
usage = resource.getrusage(resource.RUSAGE_SELF)
start_s, began = usage.ru_utime + usage.ru_stime, time.perf_counter()
merged = merge_tables([Path(place) for place in sys.argv[2:]], Path(sys.argv[1]))
usage = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which begins with the peak of the process that started this one.
peak_kib = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(merged.rows, time.perf_counter() - began, usage.ru_utime + usage.ru_stime - start_s, int(peak_kib) * 1024 / 1e6)
"""


def rows_of(numbers: Sequence[int]) -> pa.RecordBatch:
    """Return rows as label-dir writes them, named by their numbers."""
    count = len(numbers)
    chance = np.random.default_rng(numbers[0])
    words = pa.array([f"label number {number}" for number in range(1000)])
    table_schema = schema(3)
    cells: dict[str, pa.Array] = {  # type: ignore[type-arg]  # of many types
        "file_name": pa.array([f"{number // 1000:06d}/{number:09d}.jpg" for number in numbers]),
        "status": pa.array(["ok"] * count),
        "error": pa.nulls(count, pa.string()),
        "sha256": pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]),
        "model": pa.array(["efficientnet_lite0@0123456789ab"] * count),
    }
    for rank in (1, 2, 3):
        cells[f"label_{rank}"] = words.take(pa.array(chance.integers(0, 1000, count, np.int32)))
        cells[f"prob_{rank}"] = pa.array(chance.random(count, np.float32))
    for name in ("width", "height", "size_bytes", "mtime", "labelled_at"):
        values = chance.integers(1, 1 << 30, count)
        cells[name] = pa.array(values).cast(table_schema.field(name).type)
    return pa.RecordBatch.from_arrays([cells[field.name] for field in table_schema], schema=table_schema)


@dataclass(frozen=True, slots=True)
class MergeCost:
    """What a merge in a process of its own took, without the imports; `peak_mb` with them."""

    rows: float
    seconds: float
    cpu_s: float
    peak_mb: float


def merge_cost(places: Sequence[Path], out: Path) -> MergeCost:
    """Merge the tables at `places` into `out`, and return the cost."""
    command = [sys.executable, "-c", _PROGRAM, str(out), *map(str, places)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return MergeCost(*map(float, done.stdout.split()))


def write_parts(folder: Path, rows: int) -> None:
    """Write `rows` rows as the parts of ranges."""
    folder.mkdir()
    for number, begin in enumerate(range(0, rows, ROWS_PER_PART)):
        part = rows_of(range(begin, min(begin + ROWS_PER_PART, rows)))
        export([part], folder / f"part-{number:05d}.parquet", 3)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--tables", default=4, show_default=True, help="How many tables interleave.")
def main(rows: int, tables: int) -> None:
    """Write both kinds of tables, merge each in a process of its own, and print rows/s and the peak of memory."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        write_parts(home / "parts", rows)
        for number in range(tables):
            export([rows_of(range(number, rows, tables))], home / f"{number}.parquet", 3)
        interleaved = [home / f"{number}.parquet" for number in range(tables)]
        for name, places in {"ranges": [home / "parts"], "interleaved": interleaved}.items():
            cost = merge_cost(places, home / f"{name}.out.parquet")
            rates = f"{cost.rows / cost.seconds:10.0f} rows/s, {cost.rows / cost.cpu_s:10.0f} rows per CPU second"
            click.echo(f"{name:12} {cost.rows:10.0f} rows {rates}, {cost.peak_mb:6.0f} MB")


if __name__ == "__main__":
    main()
