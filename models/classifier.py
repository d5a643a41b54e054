"""Inference with onnxruntime: uint8 photos -> ids and probabilities of the k likeliest classes."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import InputMissingError
from models.onnx_runtime import FATAL_ONLY, model_file_errors, onnxruntime, open_session, quiet_options

Pixels = npt.NDArray[np.uint8]

# Up to this size of its file, a network runs fastest photo by photo, because what one layer writes is still in the
# core's cache when the next one reads it; above, reading the weights for each photo costs more. One core of an EPYC:
# EfficientNet-Lite0 (5 MB) 0.94 of the time for four at once, ResNet-18 (12 MB) 1.07. The answers are equal to the bit.
_PHOTO_BY_PHOTO_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class TopK:
    """`ids` int32 [n, k] and `probabilities` float32 [n, k] of the k likeliest classes, by descending probability.

    `familiarity` float32 [n] tells how like any class of a taught model a photo is, -1 to 1; 1 by other models.
    """

    ids: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.float32]
    familiarity: npt.NDArray[np.float32]


class Classifier:
    """An Engine: one onnxruntime session with its own threads."""

    def __init__(self, artifact_path: Path, threads: int, top_k: int, cpus: tuple[int, ...] = ()):
        """Load the artifact. `top_k` is at most the number of classes. Raises InputMissingError for a damaged file.

        The calling thread is one of the `threads`. The others are pinned to `cpus[1:]`; the caller pins itself to
        `cpus[0]`.
        """
        _share_one_arena()
        options = quiet_options(threads)
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.use_env_allocators", "1")
        if len(cpus) >= threads > 1:
            pinned = ";".join(str(cpu + 1) for cpu in cpus[1:threads])
            options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
        self._path = artifact_path
        with model_file_errors(artifact_path):
            self._session = open_session(artifact_path, options)
        self._runs_photo_by_photo = artifact_path.stat().st_size <= _PHOTO_BY_PHOTO_BYTES
        self._side = int(self._session.get_inputs()[0].shape[1])
        self._top_k = np.array([top_k], np.int64)
        self._is_taught = any(output.name == "familiarity" for output in self._session.get_outputs())

    def _check_labels(self) -> None:
        """Raise InputMissingError where the file describes fewer labels than it has classes, or more."""
        text = self._session.get_modelmeta().custom_metadata_map.get("labels")
        if text is None:
            return
        count = len(json.loads(text))
        # TopK refuses a k above the number of classes.
        if not self._has_classes(count) or self._has_classes(count + 1):
            raise InputMissingError(
                f"{self._path} is damaged: it describes {count} labels, and its network has another number of classes"
            )

    def _has_classes(self, count: int) -> bool:
        options = onnxruntime.RunOptions()
        options.log_severity_level = FATAL_ONLY
        photo = np.zeros((1, self._side, self._side, 3), np.uint8)
        try:
            self._session.run(["ids"], {"photos": photo, "k": np.array([count], np.int64)}, options)
        except Exception:
            return False
        return True

    def warm_up(self, batch_size: int) -> None:
        """Classify black images, so that the first real batch takes no longer than the next ones.

        Raises InputMissingError where the file describes another number of labels than its network has classes, or
        its answers are no numbers.
        """
        self._check_labels()
        with model_file_errors(self._path):
            check_finite(self.classify(np.zeros((batch_size, self._side, self._side, 3), np.uint8)), self._path)

    def classify(self, pixels: Pixels) -> TopK:
        """The k likeliest classes of each photo; `pixels` uint8 [n, side, side, 3] RGB, n > 0."""
        step = 1 if self._runs_photo_by_photo else len(pixels)
        parts = [self._run(pixels[start : start + step]) for start in range(0, len(pixels), step)]
        return TopK(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.familiarity for part in parts]),
        )

    def _run(self, pixels: Pixels) -> TopK:
        feed = {"photos": pixels, "k": self._top_k}
        if self._is_taught:
            probabilities, ids, familiarity = self._session.run(["probabilities", "ids", "familiarity"], feed)
        else:
            probabilities, ids = self._session.run(["probabilities", "ids"], feed)
            familiarity = np.ones(len(ids), np.float32)
        return TopK(ids.astype(np.int32), probabilities, familiarity)


def check_finite(top_k: TopK, path: Path) -> None:
    """Raise InputMissingError where a probability is no finite number, as weights that are none make all of them."""
    if not np.isfinite(top_k.probabilities).all():
        raise InputMissingError(f"{path} is damaged: its probabilities are not finite numbers")


@functools.cache
def _share_one_arena() -> None:
    """Give all sessions of this process one memory arena that grows by the size of each request.

    The default arena grows by powers of two. Without an arena, glibc's heap fragments: 190 MB instead of 120 MB.
    """
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    as_requested = {"max_mem": 0, "arena_extend_strategy": 1}
    arena = onnxruntime.OrtArenaCfg({**as_requested, "initial_chunk_size_bytes": -1, "max_dead_bytes_per_chunk": -1})
    onnxruntime.create_and_register_allocator(memory, arena)
