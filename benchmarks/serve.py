"""label-serve under load, beside label-dir, the same work in one process, and the articles' Flask recipe.

    python benchmarks/serve.py photos/                 all of it, in rounds that alternate
    python benchmarks/serve.py photos/ --memory 20000  the server's memory over 20,000 requests, too

Needs the extras `serve` and `bench`. Servers listen on this computer alone. Prints medians with their range.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

import click
import numpy as np
from http_clients import Load, PreparedRequest, SingleClient, load, prepared
from process_tree import tree_private_bytes, tree_pss_bytes
from sample_photos import make_folder, source_photos

from models.cache import ensure_artifact
from models.classifier import Classifier
from models.spec import DEFAULT_MODEL
from models.system.cpu_kind import this_cpu
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.sources.read_file import ReadLimits

_CLIENTS = 32
_PATIENCE_S = 120.0
_MEMORY_SAMPLES = 10


def command(module: str, *arguments: object) -> list[str]:
    """The command line of a program of this checkout."""
    return [sys.executable, "-m", module, *map(str, arguments)]


@contextlib.contextmanager
def label_serve(*options: object) -> Iterator[tuple[int, int]]:
    """A running label-serve with `options`: its process and its port."""
    line = command("jobs.label_serve", "--port", 0, "--max-waiting", 1000, *options)
    with tempfile.TemporaryFile("w+") as out, subprocess.Popen(line, stdout=out) as process:
        try:
            address = _first_line(process, out.fileno())
            yield process.pid, urlsplit(address).port or 0
        finally:
            process.terminate()


def _first_line(process: subprocess.Popen[bytes], descriptor: int) -> str:
    until_s = time.monotonic() + _PATIENCE_S
    while not (line := os.pread(descriptor, 1000, 0)).endswith(b"\n"):
        if process.poll() is not None or time.monotonic() > until_s:
            raise click.ClickException("label-serve does not start")
        time.sleep(0.1)
    return line.decode().strip()


@contextlib.contextmanager
def flask_recipe() -> Iterator[tuple[int, int]]:
    """A running server of the articles: its process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, str(Path(__file__).with_name("flask_recipe.py")), DEFAULT_MODEL, str(port)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_s = time.monotonic() + _PATIENCE_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None or time.monotonic() > until_s:
                    raise click.ClickException("the Flask recipe does not start: is the extra `bench` installed?")
                time.sleep(0.2)
            yield process.pid, port
        finally:
            process.terminate()


def clients(port: int, photos: Sequence[Path], count: int, number: int = _CLIENTS) -> Load:
    """What `number` clients see, in a process of their own."""
    program = Path(__file__).with_name("http_clients.py")
    line = [sys.executable, str(program), str(port), str(number), str(count), *map(str, photos)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return Load(found["seconds"], found["latencies_s"], found["wrong"])


def label_dir_rate(folder: Path) -> float:
    """Photos per second of a whole run, from the moment its processes are ready."""
    with tempfile.TemporaryDirectory() as scratch:
        line = command("jobs.label_dir", "--fresh", folder, f"{scratch}/out.parquet")
        done = subprocess.run(line, check=True, capture_output=True, text=True)
    found = re.search(r"\((\d+) images/s\)", done.stderr)
    assert found is not None, done.stderr
    return float(found[1])


def single_client(port: int, photos: Sequence[Path], count: int) -> tuple[list[float], list[float]]:
    """Seconds of single requests, and of the same photos decoded and classified in this process, in turn."""
    artifact = ensure_artifact(DEFAULT_MODEL, click.echo)
    side = artifact.preprocessing.crop.crop_size
    rules = DecodeRules(artifact.preprocessing.crop, ReadLimits())
    classifier = Classifier(artifact.path, 1, 3)
    classifier.warm_up(1)
    pixels = np.zeros((1, side, side, 3), np.uint8)
    contents = [photo.read_bytes() for photo in photos]
    requests: list[PreparedRequest] = [prepared(port, content) for content in contents]
    client = SingleClient(port)
    served: list[float] = []
    in_process: list[float] = []
    for number in range(count):
        index = number % len(contents)
        served.append(client.post(requests[index]))
        began_s = time.perf_counter()
        decode_bytes(contents[index], rules, pixels[0])
        classifier.classify(pixels)
        in_process.append(time.perf_counter() - began_s)
    return served, in_process


def memory_over(pid: int, port: int, photos: Sequence[Path], requests: int) -> list[float]:
    """Private megabytes of the server's processes after each tenth of `requests`."""
    found: list[float] = []
    for _ in range(_MEMORY_SAMPLES):
        answers = clients(port, photos, requests // _MEMORY_SAMPLES)
        assert answers.wrong == 0, f"{answers.wrong} wrong answers"
        found.append(tree_private_bytes(pid) / 1e6)
    return found


def ranged(values: Sequence[float], digits: int = 1) -> str:
    """The median and the range of `values`."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of `values` lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True, help="Rounds, in each of which every server is measured once.")
@click.option("--count", default=2000, show_default=True, help="Photos of a run, and requests of 32 clients.")
@click.option("--flask-count", default=200, show_default=True, help="Requests to the Flask recipe.")
@click.option("--single", default=200, show_default=True, help="Requests of a client that is alone.")
@click.option("--memory", default=0, show_default=True, help="Requests over which the memory is watched.")
def serve(photos: Path | None, rounds: int, count: int, flask_count: int, single: int, memory: int) -> None:
    """Measure label-serve with PHOTOS, or with those that scikit-image ships at 0.19 megapixels."""
    click.echo(f"{date.today().isoformat()}, {this_cpu().name}, {os.cpu_count()} cores")
    ensure_artifact(DEFAULT_MODEL, click.echo)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = make_folder(scratch / "photos", source_photos(photos), count, None if photos else 0.19)
        some = sorted(folder.iterdir())[:400]
        pid, port = stack.enter_context(label_serve())
        flask_pid, flask_port = stack.enter_context(flask_recipe())
        rates: dict[str, list[float]] = {"label-dir": [], "label-serve": [], "Flask": []}
        clients(port, some, 200)
        for _ in range(rounds):
            rates["label-dir"].append(label_dir_rate(folder))
            answers = clients(port, some, count)
            assert answers.wrong == 0, f"{answers.wrong} wrong answers"
            rates["label-serve"].append(answers.requests_per_s)
            requests = [prepared(flask_port, photo.read_bytes()) for photo in some]
            rates["Flask"].append(load(flask_port, requests, _CLIENTS, flask_count, False).requests_per_s)
        for name, values in rates.items():
            click.echo(f"{name}: {ranged(values)} photos/s")
        for other in ("label-dir", "Flask"):
            ratios = [ours / theirs for ours, theirs in zip(rates["label-serve"], rates[other], strict=True)]
            click.echo(f"label-serve / {other}: {ranged(ratios, 2)}")
        ours_mb, flask_mb = tree_pss_bytes(pid) / 1e6, tree_pss_bytes(flask_pid) / 1e6
        click.echo(f"memory: label-serve {ours_mb:.0f} MB, Flask {flask_mb:.0f} MB, {ours_mb / flask_mb:.2f} of it")
        _report_single(port, some, single)
        if memory:
            found = memory_over(pid, port, some, memory)
            click.echo(f"private memory over {memory} requests: {', '.join(f'{mb:.0f}' for mb in found)} MB")


def _report_single(port: int, photos: Sequence[Path], count: int) -> None:
    served, in_process = single_client(port, photos, count)
    for share, name in ((0.5, "p50"), (0.95, "p95")):
        one, other = percentile(served, share) * 1e3, percentile(in_process, share) * 1e3
        click.echo(f"one client, {name}: {one:.1f} ms, in process {other:.1f} ms, ratio {one / other:.2f}")


if __name__ == "__main__":
    serve()
