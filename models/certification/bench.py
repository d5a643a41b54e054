"""A bench of engines on this machine: each run in a fresh process, engines in turn, medians over rounds."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.certification.certificate import MEGABYTE
from models.certification.certify import resident_bytes_here
from models.classifier import Pixels
from models.engines import Engine, load_engine
from models.errors import LabelDirError
from models.system.isolated_call import Notify, isolated_call

BATCH_SIZE = 16
SINGLE_RUNS = 15
BATCH_RUNS = 4
REFERENCES = ("torch", "onnxruntime-fp32")


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine, the artifact that it loads, and the size in bytes of the model file that it reads."""

    engine: str
    artifact_path: Path
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One run in a fresh process: milliseconds as in BenchRow, images/s by number of threads, resident bytes, and the
    likeliest class of each image, int32 [n]."""

    times_ms: tuple[float, float, float, float]
    images_per_s: tuple[float, ...]
    resident_bytes: int
    ids: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One engine: medians over rounds. `agreement` is the share of images with the same label as the reference, the
    first of REFERENCES that ran; `failure` is the reason why there are no figures."""

    engine: str
    file_megabytes: float
    load_ms: float = 0.0
    first_image_cold_ms: float = 0.0
    first_image_warm_ms: float = 0.0
    batch_1_ms: float = 0.0
    images_per_s: tuple[float, ...] = ()
    resident_megabytes: float = 0.0
    agreement: float = 0.0
    failure: str = ""


def measure(notify: Notify, subject: Subject, pixels: Pixels, most_threads: int) -> Measured:
    """The figures of one engine, with one thread and then with more; to be run in a fresh process."""
    started = time.perf_counter()
    engine = load_engine(subject.engine, subject.artifact_path, 1, 1)
    load_ms = _ms_since(started)
    cold_ms = _timed_ms(engine, pixels[:1])
    engine.warm_up(1)
    warm_ms = _timed_ms(engine, pixels[:1])
    single_ms = statistics.median(_timed_ms(engine, pixels[:1]) for _ in range(SINGLE_RUNS))
    single_thread = _images_per_s(engine, pixels)
    resident = resident_bytes_here()
    parts = [pixels[start : start + BATCH_SIZE] for start in range(0, len(pixels), BATCH_SIZE)]
    ids = np.concatenate([engine.classify(part).ids[:, 0] for part in parts])
    wider = (load_engine(subject.engine, subject.artifact_path, count, 1) for count in range(2, most_threads + 1))
    speeds = (single_thread, *(_images_per_s(engine, pixels) for engine in wider))
    return Measured((load_ms, cold_ms, warm_ms, single_ms), speeds, resident, ids)


def bench(notify: Notify, subjects: list[Subject], pixels: Pixels, rounds: int, most_threads: int) -> list[BenchRow]:
    """A row for each engine, of figures on uint8 [n, side, side, 3], n > 0, or of the reason why it failed."""
    runs: dict[str, list[Measured]] = {subject.engine: [] for subject in subjects}
    failures: dict[str, str] = {}
    for turn in range(rounds):
        for subject in subjects:
            if subject.engine in failures:
                continue
            notify(f"round {turn + 1} of {rounds}: {subject.engine}")
            try:
                runs[subject.engine].append(isolated_call(measure, notify, subject, pixels, most_threads))
            except LabelDirError as error:
                failures[subject.engine] = str(error).strip().splitlines()[-1]
    preferred = [*(runs.get(name, []) for name in REFERENCES), *runs.values()]
    reference = next((measured for measured in preferred if measured), [])
    return [_row(subject, runs[subject.engine], reference, failures.get(subject.engine, "")) for subject in subjects]


def usable_threads() -> int:
    """The number of CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def _row(subject: Subject, runs: list[Measured], reference: list[Measured], failure: str) -> BenchRow:
    size = subject.file_bytes / MEGABYTE
    if failure or not runs:
        return BenchRow(subject.engine, size, failure=failure)

    load_ms, cold_ms, warm_ms, single_ms = map(statistics.median, zip(*(run.times_ms for run in runs), strict=True))
    images_per_s = tuple(map(statistics.median, zip(*(run.images_per_s for run in runs), strict=True)))
    resident = statistics.median(run.resident_bytes for run in runs) / MEGABYTE
    agreement = float((runs[0].ids == reference[0].ids).mean())
    return BenchRow(subject.engine, size, load_ms, cold_ms, warm_ms, single_ms, images_per_s, resident, agreement)


def _images_per_s(engine: Engine, pixels: Pixels) -> float:
    batch = pixels[np.arange(BATCH_SIZE) % len(pixels)]
    engine.classify(batch)
    return BATCH_SIZE * 1000 / statistics.median(_timed_ms(engine, batch) for _ in range(BATCH_RUNS))


def _timed_ms(engine: Engine, pixels: Pixels) -> float:
    started = time.perf_counter()
    engine.classify(pixels)
    return _ms_since(started)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
