"""What a decode worker does, whichever loader started it: it decodes Works into slots of the slab."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.system.worker import limit_memory
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.loading.decode_results import DecodeResults
from pipeline.records import ErrorClass, FileRef, ItemError, PhotoFacts
from pipeline.sources.source import Reader, ReaderMaker
from pipeline.system.cpus import CpuSet
from pipeline.system.shared_array import SharedArray, Slab

# Columns of the board, one row per decode worker: its process, its slot, the file of it that is being decoded (below 0:
# none), and since when.
BOARD_PID, BOARD_SLOT, BOARD_POSITION, BOARD_SINCE_NS = range(4)
IDLE, FETCHING = -1, -2


@dataclass(frozen=True, slots=True)
class Work:
    """Files to decode into one slot; `known_errors` holds the errors of files that must not be opened again."""

    slot: int
    refs: tuple[FileRef, ...]
    known_errors: tuple[ItemError | None, ...]

    @property
    def unread(self) -> list[FileRef]:
        """The files that are to be opened, in order."""
        return [ref for ref, known_error in zip(self.refs, self.known_errors, strict=True) if known_error is None]


class DecodeDataset:
    """A map-style dataset in torch's sense: its "indices" are a Work, its "samples" the Work's slot.

    Files come from the reader that `source` makes in the worker. Pixels go to `slab`, the results of files to
    `outcomes`, the file that is being decoded to `board`. A decode worker may map `memory_bytes` beyond what it starts
    with; it keeps to one of `cpu_sets`, if there are any.
    """

    def __init__(
        self,
        source: ReaderMaker,
        timeout_s: float,
        rules: DecodeRules,
        slab: Slab,
        outcomes: DecodeResults,
        board: SharedArray,
        memory_bytes: int,
        cpu_sets: Sequence[CpuSet],
    ) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._reader: Reader | None = None
        self._rules = rules
        self._slab = slab
        self._outcomes = outcomes
        self._board = board
        self._memory_bytes = memory_bytes
        self._cpu_sets = tuple(cpu_sets)
        self._row = 0

    def init_worker(self, worker_id: int) -> None:
        """Prepare this process to be decode worker `worker_id`; torch's `worker_init_fn`."""
        if self._cpu_sets:
            os.sched_setaffinity(0, self._cpu_sets[worker_id % len(self._cpu_sets)].indices)
        self._row = worker_id
        self._board.array[worker_id] = (os.getpid(), IDLE, IDLE, time.monotonic_ns())
        limit_memory(self._memory_bytes + self._source.memory_bytes)
        self._reader = self._source.open(self._rules.limits, self._timeout_s)

    @property
    def reads_ahead(self) -> bool:
        """Whether Works are to be passed to `expect` as soon as they are known."""
        return self._source.reads_ahead

    def expect(self, work: Work) -> None:
        """Take note of a Work that is to be decoded soon; any thread may call this."""
        assert self._reader is not None
        self._reader.expect(work.unread)

    def __getitems__(self, work: Work) -> int:
        """Decode `work` for torch, which passes a Work to a worker only when its turn has come."""
        if self.reads_ahead:
            self.expect(work)
        return self.decode(work)

    def decode(self, work: Work) -> int:
        """Decode `work` into its slot: photos side by side from position 0, files without one left out."""
        pixels = self._slab.slot(work.slot)
        outcomes: list[PhotoFacts | ItemError] = []
        filled = 0
        for position, (ref, known_error) in enumerate(zip(work.refs, work.known_errors, strict=True)):
            outcome = known_error or self._decode_file(work.slot, position, ref, pixels[filled])
            filled += isinstance(outcome, PhotoFacts)
            outcomes.append(outcome)
        self._outcomes.write(work.slot, outcomes)
        self._board.array[self._row, BOARD_POSITION] = IDLE
        return work.slot

    def _decode_file(
        self, slot: int, position: int, ref: FileRef, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    ) -> PhotoFacts | ItemError:
        # The fork server has it; the main process, which imports this module too, decodes nothing.
        from pipeline.decoding.decode import decode_found

        reader = self._reader
        assert reader is not None
        board = self._board.array[self._row]
        if self._source.reads_ahead:
            # A photo that the network has not brought yet is not being decoded, and ends no worker.
            board[BOARD_POSITION] = FETCHING
            reader.wait(ref)
        # The position last: the parent, which may read meanwhile, must not find it with the time of the file before.
        board[BOARD_SINCE_NS] = time.monotonic_ns()
        board[BOARD_SLOT] = slot
        board[BOARD_POSITION] = position
        try:
            return decode_found(reader.read(ref), self._rules, pixels)
        except MemoryError:
            return ItemError(ErrorClass.TOO_LARGE, "the photo needs more memory than a decode worker may have")
        except Exception as error:
            # Whatever fails in a decoder, the file gets one row, and the other files of the Work keep theirs.
            return ItemError(ErrorClass.DECODE, f"{type(error).__name__}: {error}"[:200])
