"""Shared memory of fixed size: numpy arrays, and the slab of pixels that decode workers write and classifiers read."""

from __future__ import annotations

import mmap
import os
from multiprocessing import reduction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import OutputError


class SharedArray:
    """A numpy array in memory that this process and its children share.

    The memory is an anonymous `memfd`: no name is left behind when every process is killed, and it does not count
    against `/dev/shm`, which containers keep small. Pickling it hands its descriptor to a process being started.

    Raises:
        OutputError: the memory cannot be had.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, descriptor: int | None = None) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        size_bytes = int(np.prod(shape)) * self._dtype.itemsize
        if descriptor is None:
            descriptor = os.memfd_create("label-dir", os.MFD_CLOEXEC)
            try:
                os.ftruncate(descriptor, size_bytes)
            except OSError as error:
                os.close(descriptor)
                reason = f"shared memory of {size_bytes} bytes cannot be had: {error.strerror}"
                raise OutputError(f"{reason} (a limit on files, as by ulimit -f, counts here too)") from error
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, size_bytes)
        self.array: NDArray[Any] = np.frombuffer(self._memory, dtype=self._dtype).reshape(shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (type(self), self._shape, self._dtype.str, reduction.DupFd(self._descriptor))

    def close(self) -> None:
        """Close the descriptor; the memory is freed when the last process that maps it ends."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _attach(kind: type[SharedArray], shape: tuple[int, ...], dtype: str, descriptor: Any) -> SharedArray:
    return kind(shape, dtype, descriptor.detach())


class Slab(SharedArray):
    """Batches of pixels: uint8 [slots, batch_size, side, side, 3], RGB."""

    @classmethod
    def sized(cls, slots: int, batch_size: int, side: int) -> Slab:
        """Make an empty slab for `slots` batches of `batch_size` square photos of `side` pixels."""
        return cls((slots, batch_size, side, side, 3), np.uint8)

    @property
    def slots(self) -> int:
        """How many batches fit."""
        return self._shape[0]

    @property
    def batch_size(self) -> int:
        """How many photos a slot holds."""
        return self._shape[1]

    def slot(self, index: int) -> NDArray[np.uint8]:
        """Return slot `index`: uint8 [batch_size, side, side, 3]."""
        pixels: NDArray[np.uint8] = self.array[index]
        return pixels
