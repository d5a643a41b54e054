"""label-dir against other tools: the same photos, the same architecture, each tool as a whole process.

    python benchmarks/peers.py                     the photos that scikit-image ships, in three kinds of folder
    python benchmarks/peers.py photos/             your own
    python benchmarks/peers.py --peer timm --count 1000

Needs the extra `bench`. Runs alternate. Medians, ratios and the sampled peak of the proportional set size of the whole
process tree are written as a Markdown table, a chart and a JSON file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import click
from peer_loops import NNCF, PEERS
from process_tree import PeakMemory
from sample_photos import make_folder, source_photos

from models.cache import ensure_artifact
from models.system.cpu_kind import this_cpu

OURS = "label-dir"
_LABEL_DIR_MODELS = {"tf_efficientnet_lite0": "efficientnet_lite0"}
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True, slots=True)
class Case:
    """A folder of `count` photos of `megapixels` (None: in their own size)."""

    title: str
    count: int
    megapixels: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of one tool in one case: seconds from the shell, photos per second, peak megabytes of its processes."""

    case: str
    tool: str
    seconds: float
    photos_per_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Networks:
    """One network as the tools want it: timm's name, label-dir's name, label-dir's int8 file, NNCF's int8 file."""

    architecture: str
    model: str
    int8: Path
    nncf: Path


def prepared(architecture: str, model: str, tools: list[str], source: list[Path], folder: Path) -> Networks:
    """The network in all forms; NNCF's is made in `folder`, calibrated with photos of `source`, where it is needed."""
    nncf = folder / "int8.xml"
    if NNCF in tools:
        script = str(Path(__file__).with_name("openvino_peer.py"))
        fp32 = ensure_artifact(model, click.echo, "onnxruntime-fp32").path
        photos = make_folder(folder / "calibration", source, len(source), None)
        subprocess.run([sys.executable, script, str(fp32), str(photos), str(nncf)], check=True, stdout=sys.stderr)
    return Networks(architecture, model, ensure_artifact(model, click.echo).path, nncf)


def commands(networks: Networks, photos: Path, scratch: Path) -> dict[str, list[str]]:
    """The command line of each tool that labels `photos`."""
    loops = str(Path(__file__).with_name("peer_loops.py"))
    forms = {"plain onnxruntime": str(networks.int8), NNCF: str(networks.nncf)}
    found = {
        name: [sys.executable, loops, name, str(photos), f"{scratch}/peer.csv", forms.get(name, networks.architecture)]
        for name in PEERS
    }
    ours = [
        sys.executable,
        "-m",
        "jobs.label_dir",
        "-q",
        "--fresh",
        "-m",
        networks.model,
        str(photos),
        f"{scratch}/ours.parquet",
    ]
    return {OURS: ours, **found}


def run_once(command: list[str]) -> tuple[float, float]:
    """Seconds of a command as seen from the shell, and peak megabytes of its process tree."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **_OFFLINE}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with PeakMemory(process.pid) as memory:
        _, errors = process.communicate()
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)}\n{errors}")
    return time.perf_counter() - began_s, memory.peak_bytes / 1e6


def measure(case: Case, source: list[Path], tools: list[str], networks: Networks, runs: int) -> list[Result]:
    """Medians of `runs` runs of each of `tools` on the folder of `case`, the tools in turn."""
    seen: dict[str, list[tuple[float, float]]] = {tool: [] for tool in tools}
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(Path(scratch) / "photos", source, case.count, case.megapixels)
        lines = commands(networks, folder, Path(scratch))
        for _ in range(runs):
            for tool in tools:
                seen[tool].append(run_once(lines[tool]))
    results = []
    for tool, figures in seen.items():
        seconds, peak_mb = (statistics.median(column) for column in zip(*figures, strict=True))
        results.append(Result(case.title, tool, seconds, case.count / seconds, peak_mb))
    return results


def markdown(results: list[Result], about: str) -> str:
    """All cases as one table: photos per second, ratio to label-dir, seconds, memory."""
    ours = {result.case: result for result in results if result.tool == OURS}
    lines = [
        about,
        "",
        "| folder | tool | photos/s | label-dir is faster by | seconds | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        factor = result.seconds / ours[result.case].seconds
        lines.append(
            f"| {result.case} | {result.tool} | {result.photos_per_s:.1f} | "
            f"{'' if result.tool == OURS else f'{factor:.1f} x'} | {result.seconds:.1f} | {result.peak_mb:.0f} |"
        )
    return "\n".join(lines) + "\n"


def chart(results: list[Result], about: str, path: Path) -> None:
    """Write photos per second as bars, one panel a case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(result.case for result in results))
    figure, panels = pyplot.subplots(1, len(cases), figsize=(4 * len(cases), 2.8), squeeze=False, layout="constrained")
    for panel, case in zip(panels[0], cases, strict=True):
        rows = [result for result in reversed(results) if result.case == case]
        colours = ["#0b6e4f" if row.tool == OURS else "#9aa5b1" for row in rows]
        bars = panel.barh([row.tool for row in rows], [row.photos_per_s for row in rows], color=colours)
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        panel.set_title(case, fontsize=9)
        panel.set_xlabel("photos/s, start-up included", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.18)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(about, fontsize=8)
    figure.savefig(path, dpi=110)


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=300, show_default=True, help="Photos of the first folder.")
@click.option("--large-count", default=60, show_default=True, help="Photos of 12 megapixels.")
@click.option("--runs", default=3, show_default=True, help="Runs of each tool, in turn.")
@click.option("--peer", "chosen", multiple=True, type=click.Choice(list(PEERS)), help="Only these.  [default: all]")
@click.option("--architecture", default="tf_efficientnet_lite0", show_default=True, help="timm's name for it.")
@click.option("-m", "--model", help="What label-dir runs.  [default: the same architecture]")
@click.option("--results", type=click.Path(path_type=Path), default=Path("benchmarks/results"), show_default=True)
def peers(
    photos: Path | None,
    count: int,
    large_count: int,
    runs: int,
    chosen: tuple[str, ...],
    architecture: str,
    model: str | None,
    results: Path,
) -> None:
    """Measure label-dir and its peers on PHOTOS, or on the photos that scikit-image ships."""
    source = source_photos(photos)
    small = 0.19 if photos is None else None
    cases = [
        Case(f"{count} photos of 0.19 MP" if small else f"{count} photos", count, small),
        Case(f"{large_count} photos of 12 MP", large_count, 12.0),
        Case("20 photos", 20, small),
    ]
    tools = [OURS, *(chosen or PEERS)]
    cpu = this_cpu()
    about = f"{date.today().isoformat()}, {cpu.name}, {os.cpu_count()} cores, {architecture}, medians of {runs} runs"
    measured: list[Result] = []
    with tempfile.TemporaryDirectory() as forms:
        ours = model or _LABEL_DIR_MODELS.get(architecture, architecture)
        networks = prepared(architecture, ours, tools, source, Path(forms))
        for case in cases:
            measured += measure(case, source, tools, networks, runs)
            click.echo("\n".join(str(result) for result in measured[-len(tools) :]), err=True)
    results.mkdir(parents=True, exist_ok=True)
    name = f"peers-{architecture}"
    (results / f"{name}.md").write_text(markdown(measured, about))
    (results / f"{name}.json").write_text(json.dumps([asdict(result) for result in measured], indent=1))
    chart(measured, about, results / f"{name}.png")
    click.echo(markdown(measured, about))


if __name__ == "__main__":
    peers()
