"""The search for the sizes with which this machine labels a user's own photos fastest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import cycle

from models.artifact import Artifact
from pipeline.labeller import Labeller, LabellerPlan
from pipeline.planning.plan import Settings, Sizes, default_sizes, plan_for
from pipeline.records import FileRef
from pipeline.sources.local_files import LOCAL_FILES
from pipeline.sources.source import ReaderMaker
from pipeline.system.cpus import Machine, usable_cores

_SECONDS_PER_TRIAL = 3.0
_FINAL_TRIALS = 2
# Trials of the same sizes differ by a few per cent; other sizes replace the default only when they gain more.
_CLEARLY = 1.03

Measure = Callable[[Sizes], float]
Tell = Callable[[str], None]


def tune(
    artifact: Artifact,
    machine: Machine,
    settings: Settings,
    refs: Sequence[FileRef],
    tell: Tell,
    source: ReaderMaker = LOCAL_FILES,
) -> Sizes:
    """Try plans on `refs` for about a minute and return the fastest sizes; sizes in `settings` are ignored.

    Raises:
        WorkerDiedError: the processes cannot be kept alive.
    """

    def measure(sizes: Sizes) -> float:
        plan = plan_for(machine, replace(settings, **asdict(sizes)))
        rate = photos_per_s(artifact, plan, refs, _SECONDS_PER_TRIAL, source)
        tell(
            f"{sizes.pool} classifiers x {sizes.threads} threads, {sizes.workers} decoders, "
            f"batches of {sizes.batch_size}: {rate:.0f} photos/s"
        )
        return rate

    return search(default_sizes(machine), usable_cores(machine), measure)


def search(default: Sizes, cores: int, measure: Measure) -> Sizes:
    """Vary one size after the other, keep what is clearly faster, and compare the best with the default once more."""
    best, best_rate = default, measure(default)
    for alternatives in (_thread_choices, _decoder_choices, _batch_choices):
        for sizes in alternatives(best, cores):
            rate = measure(sizes)
            if rate > best_rate * _CLEARLY:
                best, best_rate = sizes, rate
    if best == default:
        return default
    default_total = best_total = 0.0
    for _ in range(_FINAL_TRIALS):
        default_total += measure(default)
        best_total += measure(best)
    return best if best_total > default_total * _CLEARLY else default


def photos_per_s(
    artifact: Artifact,
    plan: LabellerPlan,
    refs: Sequence[FileRef],
    seconds: float,
    source: ReaderMaker = LOCAL_FILES,
) -> float:
    """Label `refs` again and again for `seconds` from the first result on, and return the rate."""
    until_s = float("inf")

    def endless() -> Iterator[FileRef]:
        for ref in cycle(refs):
            if time.monotonic() > until_s:
                return
            yield ref

    with Labeller(artifact, plan, source) as labeller:
        labeller.warm_up()
        count = 0
        began_s = ended_s = 0.0
        for _ in labeller.rows(endless()):
            now_s = time.monotonic()
            if not began_s:
                began_s, until_s = now_s, now_s + seconds
            elif now_s <= until_s:
                count, ended_s = count + 1, now_s
    return count / (ended_s - began_s) if ended_s > began_s else 0.0


def _thread_choices(best: Sizes, cores: int) -> Iterator[Sizes]:
    for threads in (2, 4):
        if threads <= cores:
            yield replace(best, pool=cores // threads, threads=threads)


def _decoder_choices(best: Sizes, cores: int) -> Iterator[Sizes]:
    for workers in sorted({max(1, cores // 2), cores + 1, cores * 2} - {best.workers}):
        yield replace(best, workers=workers)


def _batch_choices(best: Sizes, cores: int) -> Iterator[Sizes]:
    for batch_size in (best.batch_size // 2, best.batch_size * 2):
        yield replace(best, batch_size=batch_size)
