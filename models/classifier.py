"""uint8 photos -> top-k ids and probabilities with onnxruntime; knows no paths of photos and no labels."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.onnx_runtime import onnxruntime

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class TopK:
    """`ids` int32 [n, k] and `probabilities` float32 [n, k] of the k likeliest classes, descending."""

    ids: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.float32]


class Classifier:
    """One onnxruntime session with its own threads."""

    def __init__(self, artifact_path: Path, threads: int, top_k: int, cpus: tuple[int, ...] = ()):
        """`cpus` pins the session's threads: the caller's own thread to the first, which is its own affair, the others
        to the rest. `top_k` is at most the number of classes."""
        _share_frugal_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if len(cpus) >= threads > 1:
            pinned = ";".join(str(cpu + 1) for cpu in cpus[1:threads])
            options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
        self._session = onnxruntime.InferenceSession(str(artifact_path), options, providers=["CPUExecutionProvider"])
        self._side = int(self._session.get_inputs()[0].shape[1])
        self._top_k = np.array([top_k], np.int64)

    def warm_up(self, batch_size: int) -> None:
        """Run once on black images, so that the first real batch takes no longer than the others."""
        self.classify(np.zeros((batch_size, self._side, self._side, 3), np.uint8))

    def classify(self, pixels: Pixels) -> TopK:
        """uint8 [n, side, side, 3] RGB -> the k likeliest classes of each photo."""
        feed = {"photos": pixels, "k": self._top_k}
        probabilities, ids = self._session.run(["probabilities", "ids"], feed)
        return TopK(ids.astype(np.int32), probabilities)


@functools.cache
def _share_frugal_memory() -> None:
    """Give all sessions of this process one pool of memory that grows by what is asked for.

    The default grows by powers of two. Without a pool, glibc's heap fragments: 190 MB where this needs 120.
    """
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = {"max_mem": 0, "arena_extend_strategy": 1}
    growth = onnxruntime.OrtArenaCfg({**as_requested, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1})
    onnxruntime.create_and_register_allocator(place, growth)
