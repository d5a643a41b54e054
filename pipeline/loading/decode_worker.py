"""The inside of a decode process: a pipe, or torch's DataLoader, hands it work, it fills a slot of the slab."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.system.parent_death import die_with_parent
from pipeline.decoding.decode import DecodeRules, decode_file
from pipeline.loading.decode_results import DecodeResults
from pipeline.records import ErrorClass, FileRef, ItemError, PhotoFacts
from pipeline.system.child_process import leave_signals_to_parent
from pipeline.system.cpus import CpuSet
from pipeline.system.shared_array import SharedArray, Slab

# Columns of the board, one row per decode process: who, on which slot, on which of its files (-1: none), since when.
BOARD_PID, BOARD_SLOT, BOARD_POSITION, BOARD_SINCE_NS = range(4)
IDLE = -1
_forking_pid = 0


def _note_forking_pid() -> None:
    global _forking_pid
    _forking_pid = os.getpid()


# The fork server imports this module before it forks, so each decode process knows whose child it is.
os.register_at_fork(before=_note_forking_pid)


@dataclass(frozen=True, slots=True)
class Work:
    """Files to decode into one slot; `verdicts` holds what is known already of files that must not be opened again."""

    slot: int
    refs: tuple[FileRef, ...]
    verdicts: tuple[ItemError | None, ...]


class DecodeDataset:
    """A map-style dataset, as the DataLoader calls it: its "index" is a Work, its "sample" the Work's slot.

    Pixels are in `slab`, what became of each file is in `outcomes`, and what is being done on `board`.
    """

    def __init__(
        self,
        rules: DecodeRules,
        slab: Slab,
        outcomes: DecodeResults,
        board: SharedArray,
        memory_bytes: int,
        cpu_sets: Sequence[CpuSet],
    ) -> None:
        self._rules = rules
        self._slab = slab
        self._outcomes = outcomes
        self._board = board
        self._memory_bytes = memory_bytes
        self._cpu_sets = tuple(cpu_sets)
        self._row = 0

    def begin(self, worker: int) -> None:
        """Prepare this process to be decode process number `worker`."""
        die_with_parent(_forking_pid)
        leave_signals_to_parent()
        if self._cpu_sets:
            os.sched_setaffinity(0, self._cpu_sets[worker % len(self._cpu_sets)].indices)
        self._row = worker
        self._board.array[worker] = (os.getpid(), IDLE, IDLE, time.monotonic_ns())
        _limit_memory(self._memory_bytes)

    def __getitems__(self, work: Work) -> int:
        """Decode `work` into its slot: photos side by side from position 0, files without one left out."""
        pixels = self._slab.slot(work.slot)
        outcomes: list[PhotoFacts | ItemError] = []
        filled = 0
        for position, (ref, verdict) in enumerate(zip(work.refs, work.verdicts, strict=True)):
            outcome = verdict or self._decode(work.slot, position, ref, pixels[filled])
            filled += isinstance(outcome, PhotoFacts)
            outcomes.append(outcome)
        self._outcomes.write(work.slot, outcomes)
        self._board.array[self._row, BOARD_POSITION] = IDLE
        return work.slot

    def _decode(
        self, slot: int, position: int, ref: FileRef, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    ) -> PhotoFacts | ItemError:
        # The position last: who reads it meanwhile must not find it with the time of what was before.
        board = self._board.array[self._row]
        board[BOARD_SINCE_NS] = time.monotonic_ns()
        board[BOARD_SLOT] = slot
        board[BOARD_POSITION] = position
        try:
            return decode_file(ref, self._rules, pixels)
        except MemoryError:
            return ItemError(ErrorClass.TOO_LARGE, "the photo needs more memory than a decoder may have")
        except Exception as error:
            # Whatever a decoder does, its file is one row and its neighbours keep theirs.
            return ItemError(ErrorClass.DECODE, f"{type(error).__name__}: {error}"[:200])


def _limit_memory(further_bytes: int) -> None:
    """Bound this process's address space to what it has now and `further_bytes` more."""
    with open("/proc/self/statm") as statm_file:
        now_bytes = int(statm_file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now_bytes + further_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
