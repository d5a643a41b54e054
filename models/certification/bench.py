"""Every way to run a model, measured here: each in its own fresh process, all of them in turn, medians over rounds."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.certification.certificate import MEGABYTE
from models.classifier import Pixels
from models.engines import load_engine
from models.errors import LabelDirError
from models.system.isolated_call import Notify, isolated_call

BATCH_SIZE = 16
SINGLE_RUNS = 15
BATCH_RUNS = 4
REFERENCES = ("torch", "onnxruntime-fp32")


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine, what it is given to load, and the size in bytes of the model file that it reads."""

    engine: str
    artifact_path: Path
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One fresh process: milliseconds, images/s by number of threads, resident bytes, and the best ids int32 [n]."""

    load_ms: float
    cold_ms: float
    warm_ms: float
    single_ms: float
    images_per_s: tuple[float, ...]
    resident_bytes: int
    ids: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BenchRow:
    """A line of the table: medians over rounds; `agreement` is a share, with torch's eager fp32 or, where that
    was not asked for, with onnxruntime's; `failure` says why a
    line is empty."""

    engine: str
    file_megabytes: float
    load_ms: float
    first_image_cold_ms: float
    first_image_warm_ms: float
    batch_1_ms: float
    images_per_s: tuple[float, ...]
    resident_megabytes: float
    agreement: float
    failure: str = ""


def measure(notify: Notify, subject: Subject, pixels: Pixels, most_threads: int) -> Measured:
    """Load an engine and run it, first with one thread, then with more; runs in a fresh child."""
    started = time.perf_counter()
    engine = load_engine(subject.engine, subject.artifact_path, 1, 1)
    load_ms = _ms_since(started)
    first = pixels[:1]
    cold_ms = _timed_ms(lambda: engine.classify(first))
    engine.warm_up(1)
    warm_ms = _timed_ms(lambda: engine.classify(first))
    single_ms = statistics.median(_timed_ms(lambda: engine.classify(first)) for _ in range(SINGLE_RUNS))
    batch = pixels[np.arange(BATCH_SIZE) % len(pixels)]
    speeds = [_images_per_s(engine.classify, batch)]
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    ids = np.concatenate([engine.classify(part).ids[:, 0] for part in _parts(pixels)])
    for threads in range(2, most_threads + 1):
        wider = load_engine(subject.engine, subject.artifact_path, threads, 1)
        speeds = [*speeds, _images_per_s(wider.classify, batch)]
    return Measured(load_ms, cold_ms, warm_ms, single_ms, tuple(speeds), resident, ids)


def bench(notify: Notify, subjects: list[Subject], pixels: Pixels, rounds: int, most_threads: int) -> list[BenchRow]:
    """All engines on uint8 [n, side, side, 3], n > 0. An engine that fails has a row that says why."""
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
    reference = next((found for found in preferred if found), [])
    return [_row(subject, runs[subject.engine], reference, failures.get(subject.engine, "")) for subject in subjects]


def usable_threads() -> int:
    """How many threads can run at once here."""
    return len(os.sched_getaffinity(0))


def _row(subject: Subject, runs: list[Measured], reference: list[Measured], failure: str) -> BenchRow:
    size = subject.file_bytes / MEGABYTE
    if failure or not runs:
        return BenchRow(subject.engine, size, 0, 0, 0, 0, (), 0, 0, failure)
    return BenchRow(
        engine=subject.engine,
        file_megabytes=size,
        load_ms=statistics.median(run.load_ms for run in runs),
        first_image_cold_ms=statistics.median(run.cold_ms for run in runs),
        first_image_warm_ms=statistics.median(run.warm_ms for run in runs),
        batch_1_ms=statistics.median(run.single_ms for run in runs),
        images_per_s=tuple(
            statistics.median(speeds) for speeds in zip(*(run.images_per_s for run in runs), strict=True)
        ),
        resident_megabytes=statistics.median(run.resident_bytes for run in runs) / MEGABYTE,
        agreement=float((runs[0].ids == reference[0].ids).mean()),
    )


def _images_per_s(classify: Callable[[Pixels], object], batch: Pixels) -> float:
    classify(batch)
    return len(batch) * 1000 / statistics.median(_timed_ms(lambda: classify(batch)) for _ in range(BATCH_RUNS))


def _parts(pixels: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(pixels), BATCH_SIZE):
        yield pixels[start : start + BATCH_SIZE]


def _timed_ms(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return _ms_since(started)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
