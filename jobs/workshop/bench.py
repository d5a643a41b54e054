"""`label-models bench`: time every engine on a model, and the table of the figures."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from jobs.cli.columns import aligned
from jobs.workshop.building import SAMPLE_SEED, build_own
from jobs.workshop.options import QuantizationOptions
from jobs.workshop.photos import decoded_sample
from models.artifact import Artifact, read_artifact
from models.build_steps import Origin
from models.cache import ensure_artifact, ensure_built
from models.certification.bench import BATCH_SIZE, BenchRow, Subject, bench, usable_threads
from models.certification.certify import GENERATED_IMAGES, GENERATED_SEED
from models.classifier import Pixels
from models.engines import ENGINES, engine_kind
from models.manifest import cache_folder, read_manifest, state_file_name, torch_int8_name
from models.samples import generated_images
from models.system.cpu_kind import this_cpu
from models.system.isolated_call import Notify


def random_model(architecture: str, notify: Notify) -> str:
    """Build an architecture with random weights unless it is built, and return the model's name."""
    name = f"{architecture}-random"
    if read_manifest(name) is None:
        # No agreement is required, because the labels of random weights are meaningless.
        options = QuantizationOptions(min_agreement=0.0)
        build_own(Origin(name, architecture, random=True), options, notify)
    return name


def measured_rows(
    name: str, engines: tuple[str, ...], photos: Path | None, rounds: int, notify: Notify
) -> list[BenchRow]:
    """Return a row for each engine that can run the model. Raises LabelDirError."""
    manifest = ensure_built(name, notify)
    int8, fp32 = (read_artifact(cache_folder() / file) for file in (manifest.int8, manifest.fp32))
    subjects = []
    for engine in engines or tuple(ENGINES):
        kind = engine_kind(engine)
        if kind.startswith("torch") and not manifest.state:
            continue
        if kind == "torch-int8":
            ensure_artifact(name, notify, engine)
        subjects.append(_subject(engine, int8, fp32))
    return bench(notify, subjects, _pixels(fp32, photos), rounds, usable_threads())


def _subject(engine: str, int8: Artifact, fp32: Artifact) -> Subject:
    """Return the artifact that an engine loads, and the size of the file it runs."""
    kind = engine_kind(engine)
    artifact = int8 if kind in ("onnxruntime", "openvino") else fp32
    if kind == "torch":
        file = fp32.path.parent / state_file_name(fp32.name, fp32.source["weights_sha256"])
    elif kind == "torch-int8":
        file = fp32.path.parent / torch_int8_name(fp32, engine)
    else:
        file = artifact.path
    return Subject(engine, artifact.path, file.stat().st_size)


def _pixels(artifact: Artifact, photos: Path | None) -> Pixels:
    if photos is None:
        return generated_images(GENERATED_IMAGES, artifact.preprocessing.crop.crop_size, GENERATED_SEED)
    with contextlib.closing(decoded_sample(photos, artifact.preprocessing.crop, SAMPLE_SEED)) as sample:
        return np.stack([photo.pixels for photo in itertools.islice(sample, 200)])


def as_text(rows: list[BenchRow], output_format: str) -> str:
    """Return the rows as a "table" for people, "csv" or "json"."""
    if output_format == "json":
        return json.dumps(
            {"cpu": str(this_cpu()), "batch_size": BATCH_SIZE, "rows": [asdict(row) for row in rows]}, indent=1
        )
    threads = max((len(row.images_per_s) for row in rows), default=1)
    header = ["engine", "file MB", "load ms", "first cold ms", "first warm ms", "batch 1 ms"]
    header += [f"images/s, {count} thread{'s' * (count > 1)}" for count in range(1, threads + 1)]
    header += ["resident MB", "agreement"]
    lines = [header, *(_cells(row, threads) for row in rows)]
    if output_format == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(lines)
        return stream.getvalue().rstrip("\n")
    return "\n".join(aligned(lines, right=range(1, len(header))))


def _cells(row: BenchRow, threads: int) -> list[str]:
    if row.failure:
        return [row.engine, f"{row.file_megabytes:.1f}", *[""] * (threads + 5), row.failure]
    times = (row.load_ms, row.first_image_cold_ms, row.first_image_warm_ms, row.batch_1_ms)
    speeds = [f"{speed:.1f}" for speed in row.images_per_s]
    memory, agreement = f"{row.resident_megabytes:.0f}", f"{row.agreement:.1%}"
    return [row.engine, f"{row.file_megabytes:.1f}", *(f"{ms:.1f}" for ms in times), *speeds, memory, agreement]
