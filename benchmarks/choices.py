"""The default plan against its alternatives, one setting changed at a time; see `pipeline/planning/plan.py`.

    python benchmarks/choices.py                the photos that scikit-image ships, as 0.19-megapixel JPEGs
    python benchmarks/choices.py photos/        your own

Every plan runs once in each round, in every second round in the opposite order; medians are printed. On a machine with
other work, compare the CPU time per photo.
"""

from __future__ import annotations

import statistics
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from sample_photos import make_folder, source_photos
from throughput import Whole, in_new_process, measure_pipeline

from models.cache import ensure_artifact
from pipeline.labeller import LabellerPlan
from pipeline.loading.loader_kind import LoaderKind
from pipeline.planning.plan import Settings, Sizes, default_sizes, plan_for
from pipeline.system.cpus import this_machine, usable_cores

_DEFAULT = "default"
_MEGAPIXELS = 0.19


@dataclass(frozen=True, slots=True)
class Turn:
    """One run of a plan: photos per second, and CPU seconds per photo of all processes together."""

    photos_per_s: float
    cpu_s: float


def plans() -> dict[str, LabellerPlan]:
    """The default plan and its alternatives, by the setting that differs."""
    machine = this_machine()
    cores, default = usable_cores(machine), default_sizes(machine)

    def planned(sizes: Sizes) -> LabellerPlan:
        return plan_for(machine, Settings(**asdict(sizes)))

    found = {_DEFAULT: planned(default)}
    for batch_size in (4, 8, 32):
        found[f"batches of {batch_size}"] = planned(replace(default, batch_size=batch_size))
    for workers in sorted({max(1, cores // 2), cores + 1, 2 * cores} - {default.workers}):
        found[f"{workers} decoders"] = planned(replace(default, workers=workers))
    if cores > 1:
        found[f"one classifier of {cores} threads"] = planned(replace(default, pool=1, threads=cores))
    for prefetch in (1, 4):
        plan = found[_DEFAULT]
        found[f"prefetch of {prefetch}"] = replace(plan, loader=replace(plan.loader, prefetch=prefetch))
    found["torch's DataLoader"] = plan_for(machine, Settings(loader=LoaderKind.TORCH))
    return found


def turn_of(whole: Whole, photos: int) -> Turn:
    """The rate and the CPU time per photo of a run over `photos` photos."""
    return Turn(whole.photos_per_s, sum(used.cpu_s for role in whole.usage.values() for used in role) / photos)


def table(turns: dict[str, list[Turn]]) -> list[str]:
    """Medians as Markdown lines; ratios are between runs of the same round."""
    lines = ["| plan | photos/s | against the default | CPU ms per photo |", "|---|---|---|---|"]
    for name, runs in turns.items():
        rate = statistics.median(turn.photos_per_s for turn in runs)
        pairs = zip(runs, turns[_DEFAULT], strict=True)
        ratio = statistics.median(one.photos_per_s / other.photos_per_s for one, other in pairs)
        cpu_ms = statistics.median(turn.cpu_s for turn in runs) * 1000
        lines.append(f"| {name} | {rate:.1f} | {ratio:.3f} | {cpu_ms:.2f} |")
    return lines


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=800, show_default=True, help="Photos per run.")
@click.option("--rounds", default=5, show_default=True, help="Runs of each plan.")
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def choices(photos: Path | None, count: int, rounds: int, model: str) -> None:
    """Measure the default plan and its alternatives on PHOTOS, or on the photos that scikit-image ships."""
    artifact = ensure_artifact(model, click.echo)
    tried = plans()
    turns: dict[str, list[Turn]] = {name: [] for name in tried}
    with tempfile.TemporaryDirectory() as scratch:
        size = _MEGAPIXELS if photos is None else None
        folder = make_folder(Path(scratch) / "photos", source_photos(photos), count, size)
        for number in range(rounds):
            for name in reversed(tried) if number % 2 else tried:
                whole = in_new_process(measure_pipeline, folder, artifact, tried[name])
                turns[name].append(turn_of(whole, count))
    click.echo(f"{artifact.model_id}, {count} photos, medians of {rounds} runs each, in turn\n")
    click.echo("\n".join(table(turns)))


if __name__ == "__main__":
    choices()
