"""FileRefs in, Rows out: decode and classifier workers, started once for any number of passes."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

from models.artifact import Artifact
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.inference.pool import Pool
from pipeline.inference.row_maker import RowMaker
from pipeline.inference.worker import ClassifierSetup
from pipeline.loading.loader import Loader, LoaderPlan
from pipeline.records import Batch, Classified, FileRef, Row
from pipeline.sources.local_files import LOCAL_FILES
from pipeline.sources.read_file import ReadLimits
from pipeline.sources.source import ReaderMaker
from pipeline.system.cpus import CpuSet
from pipeline.system.shared_array import Slab

_WAIT_S = 1.0
# A decode worker that takes 200 photos a second and knows of 64 has begun each request over 160 ms before it is needed.
_PHOTOS_READ_AHEAD = 64


@dataclass(frozen=True, slots=True)
class LabellerPlan:
    """Numbers of workers, their CPUs, the size of a batch, time limits and memory bounds."""

    engine: str
    top_k: int
    batch_size: int
    cpu_sets: tuple[CpuSet, ...]
    loader: LoaderPlan
    limits: ReadLimits
    batch_timeout_s: float = 60.0
    classifier_recycle_bytes: int = 2 << 30
    # In place of the thresholds that a taught model has itself.
    min_probability: float | None = None

    @property
    def slots(self) -> int:
        """Enough that the loader can prefetch fully while every classifier has a batch at work and one waiting."""
        return self.loader.workers * self.loader.prefetch + 2 * len(self.cpu_sets) + 1

    def reading_ahead(self) -> LabellerPlan:
        """Return this plan with more batches known ahead of each decode worker, for files that come over a network."""
        prefetch = max(self.loader.prefetch, math.ceil(_PHOTOS_READ_AHEAD / self.batch_size))
        return replace(self, loader=replace(self.loader, prefetch=prefetch))


class Labeller:
    """Decode workers and classifier workers around one slab; files are opened through `source`."""

    def __init__(self, artifact: Artifact, plan: LabellerPlan, source: ReaderMaker = LOCAL_FILES) -> None:
        if source.reads_ahead:
            plan = plan.reading_ahead()
        self._artifact = artifact
        self._plan = plan
        self._row_maker = RowMaker(artifact, plan.min_probability)
        self._slab = Slab.sized(plan.slots, plan.batch_size, artifact.preprocessing.crop.crop_size)
        setup = ClassifierSetup(artifact.path, plan.engine, plan.top_k, self._slab)
        self._pool = Pool(setup, plan.cpu_sets, plan.batch_timeout_s, plan.classifier_recycle_bytes)
        self._loader = Loader(DecodeRules(artifact.preprocessing.crop, plan.limits), self._slab, plan.loader, source)
        self._free = list(range(plan.slots))
        self._done: deque[Classified] = deque()
        self._is_warm = False
        self._in_pass = False
        self._on_wait: Callable[[], None] = lambda: None

    def __enter__(self) -> Labeller:
        # The pool first: it loads models while the fork server imports what decode workers need.
        try:
            self._pool.start()
            self._loader.start_fork_server()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm_up(self) -> None:
        """Wait until every classifier has answered a first batch and the decode workers are ready.

        Raises:
            WorkerDiedError: the model cannot be loaded.
        """
        self._loader.prepare()
        self._pool.wait_until_warm()
        self._is_warm = True

    @property
    def model_id(self) -> str:
        """The model's name and digest, as in rows."""
        return self._artifact.model_id

    @property
    def idle_decode_workers(self) -> int:
        """How many decode workers have nothing to decode in a live pass."""
        return self._plan.loader.workers - len(self._loader.busy_connections)

    @property
    def batch_size(self) -> int:
        """How many photos a batch holds."""
        return self._plan.batch_size

    @property
    def restarts(self) -> int:
        """How often workers had to be restarted."""
        return self._pool.restarts + self._loader.restarts

    def rows(self, refs: Iterator[FileRef], on_wait: Callable[[], None] = lambda: None) -> Iterator[Row]:
        """Yield one row for each of `refs`, in the order they are finished; memory does not grow with their number.

        `refs` may end, and yield again when it is asked once more. `on_wait` is called about once a second while
        nothing is finished.

        Raises:
            WorkerDiedError: workers die faster than restarting them makes sense.
        """
        if self._in_pass:
            self._discard_pass()
        # Photos are decoded, and handed to classifiers, while these load their model.
        self._loader.prepare()
        self._on_wait = on_wait
        self._in_pass = True
        yield from self._pass(refs)
        self._in_pass = False

    def _pass(self, refs: Iterator[FileRef]) -> Iterator[Row]:
        for batch in self._loader.batches(refs, self._acquire_slot):
            if batch is None:
                # The caller makes finished rows durable, which must not wait for a photo that takes long.
                self._on_wait()
            else:
                self._classify(batch)
            self._collect(0.0)
            yield from self._finished_rows()
        while self._pool.busy:
            self._collect(_WAIT_S)
            yield from self._finished_rows()
        yield from self._finished_rows()

    def start_live_pass(self, refs: Iterator[FileRef]) -> None:
        """Start a pass without an end for `rows_now`: `refs` may end whenever there are no files for the moment.

        A batch is cut where `refs` end. Raises as `rows` does.
        """
        if self._in_pass:
            self._discard_pass()
        if not self._is_warm:
            self.warm_up()
        self._in_pass = True
        self._loader.start_live_pass(_WhileSlotsAreFree(self._free, refs), self._acquire_slot)

    def rows_now(self) -> list[Row]:
        """Hand the files that the live pass has to the workers, and return the rows that are finished by now.

        Never waits for a photo. Raises as `rows` does.
        """
        for batch in self._loader.decoded_now():
            self._classify(batch)
        self._collect(0.0)
        return list(self._finished_rows())

    def wait_for_workers(self, wake: int, timeout_s: float) -> None:
        """Return when `rows_now` has something to do, when descriptor `wake` is readable, or after `timeout_s`."""
        wait([*self._loader.busy_connections, *self._pool.connections, wake], timeout_s)

    def close(self) -> None:
        """End all workers and release the slab."""
        # Where ending the loader is interrupted, the pool is ended all the same.
        with contextlib.ExitStack() as stack:
            stack.callback(self._slab.close)
            stack.callback(self._pool.close)
            stack.callback(self._loader.close)

    def _discard_pass(self) -> None:
        """Discard a pass that was left early, so that another can begin."""
        self._is_warm = False
        self._loader.discard_pass()
        self._pool.discard_batches()
        self._done.clear()
        self._free = list(range(self._slab.slots))

    def _classify(self, batch: Batch) -> None:
        if batch.photo_count:
            self._pool.submit(batch)
        else:
            self._done.append(Classified(batch, ()))
            self._free.append(batch.slot)

    def _acquire_slot(self) -> int:
        while not self._free:
            self._collect(_WAIT_S)
        return self._free.pop()

    def _collect(self, timeout_s: float) -> None:
        finished = self._pool.collect(timeout_s)
        if timeout_s and not finished:
            self._on_wait()
        for classified in finished:
            self._done.append(classified)
            self._free.append(classified.batch.slot)

    def _finished_rows(self) -> Iterator[Row]:
        while self._done:
            yield from self._row_maker.rows_of(self._done.popleft())


class _WhileSlotsAreFree(Iterator[FileRef]):
    """Yields `refs` while a slot is free, so that a live pass never waits for one; unlike a generator, goes on."""

    def __init__(self, free: list[int], refs: Iterator[FileRef]) -> None:
        self._free = free
        self._refs = refs

    def __next__(self) -> FileRef:
        if not self._free:
            raise StopIteration
        return next(self._refs)
