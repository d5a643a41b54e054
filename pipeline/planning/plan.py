"""How many processes, threads and photos a batch: from the machine, from tuning, and from what the user sets."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.spec import DEFAULT_BATCH_SIZE, DEFAULT_ENGINE, DEFAULT_TOP_K
from pipeline.defaults import DEFAULT_PHOTO_TIMEOUT_S
from pipeline.labeller import LabellerPlan
from pipeline.loading.loader import LoaderPlan
from pipeline.loading.loader_kind import DEFAULT_LOADER, LoaderKind
from pipeline.sources.read_file import ReadLimits
from pipeline.system.cpus import CpuSet, Machine, cpu_sets, usable_cores, whole_cores

DEFAULT_PREFETCH = 2
_LOADERS_EXPLAINED: dict[LoaderKind, str] = {
    LoaderKind.PIPES: "our own processes, which start at once and stay small",
    LoaderKind.TORCH: "torch's DataLoader, as you set it",
}
_DECODER_MEMORY_BYTES = 4 << 30
_DECODER_RECYCLE_BYTES = 3 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user may set; None leaves the choice to the machine."""

    batch_size: int | None = None
    workers: int | None = None
    pool: int | None = None
    threads: int | None = None
    top_k: int = DEFAULT_TOP_K
    engine: str = DEFAULT_ENGINE
    loader: LoaderKind = DEFAULT_LOADER
    timeout_s: float = DEFAULT_PHOTO_TIMEOUT_S
    limits: ReadLimits = field(default_factory=ReadLimits)
    min_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that decide the speed: classifier processes, threads of each, decode processes, photos per batch."""

    pool: int
    threads: int
    workers: int
    batch_size: int


def default_sizes(machine: Machine) -> Sizes:
    """Return the default: a classifier of one thread and a decoder for every usable core."""
    cores = usable_cores(machine)
    return Sizes(cores, 1, cores, DEFAULT_BATCH_SIZE)


def chosen_sizes(machine: Machine, settings: Settings, tuned: Sizes | None = None) -> Sizes:
    """Return what the user set, else what was tuned, else the default; `threads` alone decides the classifiers too."""
    base = tuned or default_sizes(machine)
    threads = settings.threads or base.threads
    pool = settings.pool or (max(1, usable_cores(machine) // threads) if settings.threads else base.pool)
    return Sizes(pool, threads, settings.workers or base.workers, settings.batch_size or base.batch_size)


def plan_for(machine: Machine, settings: Settings, tuned: Sizes | None = None) -> LabellerPlan:
    """Return the plan by `settings`; what they leave open is as `tuned` on this machine, or else the default."""
    sizes = chosen_sizes(machine, settings, tuned)
    sets = cpu_sets(machine, sizes.pool, sizes.threads)
    return LabellerPlan(
        engine=settings.engine,
        top_k=settings.top_k,
        batch_size=sizes.batch_size,
        cpu_sets=sets,
        loader=LoaderPlan(
            workers=sizes.workers,
            prefetch=DEFAULT_PREFETCH,
            cpu_sets=_decoder_sets(machine, sizes, sets),
            timeout_s=settings.timeout_s,
            memory_bytes=_DECODER_MEMORY_BYTES,
            recycle_bytes=_DECODER_RECYCLE_BYTES,
            kind=settings.loader,
        ),
        limits=settings.limits,
        batch_timeout_s=max(60.0, settings.timeout_s),
        min_probability=settings.min_probability,
    )


def _decoder_sets(machine: Machine, sizes: Sizes, sets: tuple[CpuSet, ...]) -> tuple[CpuSet, ...]:
    """Return for each classifier the cores that its decoders share; nothing where pinning would leave cores idle.

    A decoder that moves between cores evicts the data of their classifiers from the caches: that costs 5% of the photos
    per second on two cores.
    """
    cores_in_use = min(len(sets) * sizes.threads, usable_cores(machine))
    if cores_in_use < usable_cores(machine) or sizes.workers % len(sets):
        return ()
    return tuple(whole_cores(machine, cpus) for cpus in sets)


def explained(
    machine: Machine, settings: Settings, tuned: Sizes | None, photo_bytes: int, reads_ahead: bool
) -> list[str]:
    """Return lines for a person: the plan, and where each size comes from.

    `photo_bytes` is the size of a model's input; `reads_ahead` whether photos come over a network.
    """
    plan = plan_for(machine, settings, tuned)
    plan = plan.reading_ahead() if reads_ahead else plan
    why_so_many = "more, so that requests begin in time" if reads_ahead else "one more, so that none waits"
    sizes = chosen_sizes(machine, settings, tuned)
    sets = " ".join(",".join(map(str, cpus.indices)) for cpus in plan.cpu_sets)
    plural = "s" if sizes.threads > 1 else ""
    slab_mb = plan.slots * sizes.batch_size * photo_bytes / 1e6

    def why(set_by_user: int | None, by_default: str) -> str:
        if set_by_user is not None:
            return "as you set it"
        return "tuned on this machine" if tuned else by_default

    pool_why = why(settings.pool or settings.threads, "one per usable core")
    return [
        f"machine       {_described(machine)}",
        f"classifiers   {sizes.pool} x {sizes.threads} thread{plural}, on CPUs {sets}: {pool_why}",
        f"decoders      {sizes.workers}: {why(settings.workers, 'one per usable core')}",
        f"loader        {_LOADERS_EXPLAINED[settings.loader]}",
        f"batch         {sizes.batch_size} photos: {why(settings.batch_size, 'large enough, and small in memory')}",
        f"pixel memory  {plan.slots} batches, {slab_mb:.0f} MB: two per process and {why_so_many}",
    ]


def _described(machine: Machine) -> str:
    cores = len({(cpu.node, cpu.core) for cpu in machine.cpus})
    nodes = len({cpu.node for cpu in machine.cpus})
    text = f"{len(machine.cpus)} CPUs on {cores} physical cores, {nodes} memory node{'s' if nodes > 1 else ''}"
    if machine.quota_cpus is not None:
        text += f", a quota of {machine.quota_cpus:g} CPUs"
    return f"{text}: work for {usable_cores(machine)}"
