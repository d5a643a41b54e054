"""A runner without torch beside a full installation: its size, its first labels, its rate, and its tables.

    python benchmarks/runner.py                    the photos that scikit-image ships
    python benchmarks/runner.py photos/ --count 1000 --pairs 7

Makes a fresh environment as docs/install.md says: requirements-runner.txt, then a wheel of this checkout without its
dependencies. The model is exported by the environment that runs this script, which is the full installation. Both label
the same folders with the exported file, in turn. Fails where a table differs in more than `labelled_at`, or where the
environment is larger than 450 MB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow.parquet as pq
from sample_photos import make_folder, source_photos

_ROOT = Path(__file__).parents[1]
_PACKAGES = ("jobs", "models", "pipeline")
_FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
_LARGEST_MB = 450
_FEW = 20
_FULL, _RUNNER = "full", "runner"


@dataclass(frozen=True, slots=True)
class Rates:
    """Images/s of both installations in one pair, without start-up; seconds of both from the shell to 20 labels."""

    full_images_per_s: float
    runner_images_per_s: float
    full_few_s: float
    runner_few_s: float


def make_runner(folder: Path) -> Path:
    """A fresh environment as docs/install.md says; return its folder of commands."""
    source = folder / "source"
    for package in _PACKAGES:
        shutil.copytree(_ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in _FILES:
        shutil.copy(_ROOT / file, source)
    environment = folder / "environment"
    run([sys.executable, "-m", "venv", environment])
    pip: list[str | Path] = [environment / "bin/pip", "install", "--quiet"]
    run([*pip, "--requirement", _ROOT / "requirements-runner.txt"])
    run([*pip, "--no-deps", source])
    return environment / "bin"


def run(command: list[str | Path], **variables: str) -> float:
    """Run a command to its end and return its seconds. Raises ClickException with its messages."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    began_s = time.perf_counter()
    done = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(map(str, command))}\n{done.stderr}")
    return time.perf_counter() - began_s


def megabytes(folder: Path) -> float:
    """The size of all files below a folder, on disk, each hard link once."""
    sizes = {status.st_ino: status.st_blocks * 512 for path in folder.rglob("*") for status in [path.lstat()]}
    return sum(sizes.values()) / 1e6


def rates(commands: dict[str, list[str | Path]], many: Path, few: Path, out: Path, pairs: int) -> Iterator[Rates]:
    """Both installations on both folders, in turn; the order changes from pair to pair."""
    count = len(list(many.iterdir())) - len(list(few.iterdir()))
    for pair in range(pairs + 1):
        seconds: dict[str, tuple[float, float]] = {}
        for name in sorted(commands, reverse=bool(pair % 2)):
            tables = [out / f"{name}-{folder.name}.parquet" for folder in (many, few)]
            many_s, few_s = (
                run([*commands[name], "--fresh", "-q", folder, table], XDG_CACHE_HOME=str(out / f"{name}-cache"))
                for folder, table in zip((many, few), tables, strict=True)
            )
            seconds[name] = (count / max(many_s - few_s, 1e-3), few_s)
        # The first pair certifies the model and fills the page cache.
        if pair:
            yield Rates(seconds[_FULL][0], seconds[_RUNNER][0], seconds[_FULL][1], seconds[_RUNNER][1])


def differing_columns(out: Path, folder: str) -> list[str]:
    """The columns in which the tables of both installations differ, but for `labelled_at`."""
    full, runner = (pq.read_table(out / f"{name}-{folder}.parquet") for name in (_FULL, _RUNNER))
    if full.schema != runner.schema:
        return ["schema"]
    return [name for name in full.column_names if name != "labelled_at" and full[name] != runner[name]]


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=1000, show_default=True, help="Photos.")
@click.option("--pairs", default=7, show_default=True, help="Pairs of runs that count.")
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def runner(photos: Path | None, count: int, pairs: int, model: str) -> None:
    """Make a runner, measure it beside this environment and compare their tables."""
    here = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        commands_folder = make_runner(scratch)
        size_mb = megabytes(commands_folder.parent)
        click.echo(f"environment of the runner: {size_mb:.0f} MB, goal {_LARGEST_MB}")
        exported = scratch / "model.onnx"
        run([here / "label-models", "export", model, exported])
        many = make_folder(scratch / "many", source_photos(photos), count, None)
        few = make_folder(scratch / "few", source_photos(photos), _FEW, None)
        commands: dict[str, list[str | Path]] = {
            _FULL: [here / "label-dir", "-m", exported],
            _RUNNER: [commands_folder / "label-dir", "-m", exported],
        }
        found = []
        for pair in rates(commands, many, few, scratch, pairs):
            click.echo(str(pair))
            found.append(pair)
        differing = [*differing_columns(scratch, "many"), *differing_columns(scratch, "few")]
    ratios = [pair.runner_images_per_s / pair.full_images_per_s for pair in found]
    first_s = [pair.runner_few_s for pair in found]
    click.echo(
        f"images/s of the runner / of the full installation: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"
    )
    click.echo(f"{_FEW} photos from the shell: {statistics.median(first_s):.2f} s")
    click.echo("same tables, byte for byte except labelled_at" if not differing else f"differ: {differing}")
    if differing or size_mb > _LARGEST_MB:
        raise click.ClickException("the runner does not keep its promises")


if __name__ == "__main__":
    runner()
