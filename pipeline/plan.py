"""How many processes, threads and photos at a time: from the machine and what the user sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.cpus import Machine, cpu_sets, usable_cores
from pipeline.labeller import LabellerPlan
from pipeline.loader import LoaderPlan
from pipeline.read import ReadLimits

DEFAULT_ENGINE = "onnxruntime"
DEFAULT_BATCH_SIZE = 16
DEFAULT_PREFETCH = 2
_DECODER_MEMORY_BYTES = 4 << 30
_DECODER_RECYCLE_BYTES = 3 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may set; None leaves it to the machine."""

    batch_size: int | None = None
    workers: int | None = None
    pool: int | None = None
    threads: int | None = None
    top_k: int = 3
    engine: str = DEFAULT_ENGINE
    timeout_s: float = 60.0
    limits: ReadLimits = field(default_factory=ReadLimits)


def plan_for(machine: Machine, settings: Settings) -> LabellerPlan:
    """Fill in what `settings` leaves open: a classifier of one thread and a decoder for every usable core."""
    cores = usable_cores(machine)
    threads = settings.threads or 1
    processes = settings.pool or max(1, cores // threads)
    return LabellerPlan(
        engine=settings.engine,
        top_k=settings.top_k,
        batch_size=settings.batch_size or DEFAULT_BATCH_SIZE,
        cpu_sets=cpu_sets(machine, processes, threads),
        loader=LoaderPlan(
            workers=settings.workers or cores,
            prefetch=DEFAULT_PREFETCH,
            niceness=0,
            timeout_s=settings.timeout_s,
            memory_bytes=_DECODER_MEMORY_BYTES,
            recycle_bytes=_DECODER_RECYCLE_BYTES,
        ),
        limits=settings.limits,
        batch_timeout_s=max(60.0, settings.timeout_s),
    )
