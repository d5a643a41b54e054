"""torch's antialiased resize of uint8 through its C interface: loaded in 0.2 s, where `import torch` takes 2 s.

The interface is torch's stable ABI, https://docs.pytorch.org/docs/stable/notes/libtorch_stable_abi.html, and its
header torch/csrc/stable/c/shim.h. With a torch that lacks the interface, the same operator is called through Python.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.spec import Interpolation

logger = logging.getLogger(__name__)

# The operator dispatcher is told that the caller uses the interface of torch 2.13, which later versions keep.
_ABI_VERSION = 2 << 56 | 13 << 48
_OPERATORS = {"bicubic": b"aten::_upsample_bicubic2d_aa", "bilinear": b"aten::_upsample_bilinear2d_aa"}
_CHANNELS = 3

Pixels = NDArray[np.uint8]
Resize = Callable[[Pixels, int, Interpolation], Pixels]


def resize(pixels: Pixels, side: int, interpolation: Interpolation) -> Pixels:
    """Resize `pixels`, uint8 [height, width, 3], with antialiasing to uint8 [side, side, 3].

    torch uses as many threads as OMP_NUM_THREADS says at the first call.
    """
    return _implementation()(np.ascontiguousarray(pixels), side, interpolation)


@functools.cache
def _implementation() -> Resize:
    try:
        library = LibTorch()
        library.resize(np.zeros((2, 2, _CHANNELS), np.uint8), 1, "bicubic")
    except (OSError, AttributeError) as error:
        logger.warning(
            "torch's C interface cannot be used (%s); importing all of torch takes 2 s and half a gigabyte", error
        )
        return resize_by_python
    return library.resize


class LibTorch:
    """The shared library that holds torch's operators for CPUs.

    Raises:
        OSError: torch is not installed, or its library cannot be loaded.
        AttributeError: the library lacks the interface.
    """

    def __init__(self) -> None:
        torch = importlib.util.find_spec("torch")
        if torch is None or torch.origin is None:
            raise OSError("torch is not installed")
        library = ctypes.CDLL(str(Path(torch.origin).with_name("lib") / "libtorch_cpu.so"))

        def function(name: str, *arguments: Any) -> Callable[..., int]:
            found: Any = getattr(library, name)
            found.argtypes = arguments
            return found  # type: ignore[no-any-return]

        sizes, kind, result = POINTER(c_int64), (c_int32, c_int32, c_int32), POINTER(c_void_p)
        self._from_memory = function(
            "aoti_torch_create_tensor_from_blob", c_void_p, c_int64, sizes, sizes, c_int64, *kind, result
        )
        self._kind = (library.aoti_torch_dtype_uint8(), library.aoti_torch_device_type_cpu(), 0)
        self._new_list = function("torch_new_list_reserve_size", c_size_t, result)
        self._append = function("torch_list_push_back", c_void_p, c_uint64)
        self._call = function("torch_call_dispatcher", c_char_p, c_char_p, POINTER(c_uint64), c_uint64)
        self._memory_of = function("aoti_torch_get_data_ptr", c_void_p, result)
        self._delete = function("aoti_torch_delete_tensor_object", c_void_p)

    def resize(self, pixels: Pixels, side: int, interpolation: Interpolation) -> Pixels:
        """Resize contiguous `pixels`; see `resize`."""
        sizes, tensor = c_void_p(), self._tensor(pixels)
        _check(self._new_list(2, byref(sizes)))
        for _ in range(2):
            _check(self._append(sizes, side))
        # The operator's arguments are (self, output_size, align_corners, scales_h, scales_w); the operator frees them
        # and puts its result in the place of the first.
        stack = (c_uint64 * 5)(tensor.value or 0, sizes.value or 0, 0, 0, 0)
        _check(self._call(_OPERATORS[interpolation], b"", stack, _ABI_VERSION))
        resized, memory = c_void_p(stack[0]), c_void_p()
        _check(self._memory_of(resized, byref(memory)))
        # The result has the layout of the input: channels innermost.
        result: Pixels = np.empty((side, side, _CHANNELS), np.uint8)
        ctypes.memmove(result.ctypes.data, memory, result.nbytes)
        _check(self._delete(resized))
        return result

    def _tensor(self, pixels: Pixels) -> c_void_p:
        """Return `pixels` as torch's tensor [1, 3, height, width], channels innermost, without a copy."""
        height, width, _ = pixels.shape
        tensor = c_void_p()
        shape = (c_int64 * 4)(1, _CHANNELS, height, width)
        strides = (c_int64 * 4)(height * width * _CHANNELS, 1, width * _CHANNELS, _CHANNELS)
        _check(self._from_memory(pixels.ctypes.data, 4, shape, strides, 0, *self._kind, byref(tensor)))
        return tensor


def resize_by_python(pixels: Pixels, side: int, interpolation: Interpolation) -> Pixels:
    """Resize as `resize` does, with all of torch imported."""
    import torch

    # torch warns of an array that is not writable, as one made of a Pillow image is.
    photo = torch.from_numpy(np.require(pixels, requirements="W"))[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(photo, size=(side, side), mode=interpolation, antialias=True)
    result: Pixels = resized[0].permute(1, 2, 0).numpy()
    return result


def _check(error_code: int) -> None:
    if error_code:
        raise OSError(f"torch refused a call, code {error_code}")
