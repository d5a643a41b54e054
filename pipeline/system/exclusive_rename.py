"""A rename that never replaces a file: the kernel itself refuses where the new name is taken (Linux)."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
# Old kernels, NFS and some FUSE file systems have no such rename.
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def rename_without_replacing(path: Path, new_path: Path) -> None:
    """Rename `path` to `new_path`, which must not exist.

    Where the file system cannot check and rename in one step, a file that appears at `new_path` between the two steps
    is replaced.

    Raises:
        FileExistsError: `new_path` exists.
        OSError: the file cannot be renamed.
    """
    code = _renamed_by_kernel(path, new_path)
    if code in _UNSUPPORTED:
        if os.path.lexists(new_path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new_path))
        path.rename(new_path)
    elif code:
        raise OSError(code, os.strerror(code), str(path), None, str(new_path))


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _renamed_by_kernel(path: Path, new_path: Path) -> int:
    """Return 0, or the error number with which the kernel refused."""
    rename = getattr(_c_library(), "renameat2", None)
    if rename is None:
        return errno.ENOSYS
    refused = rename(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(new_path), _RENAME_NOREPLACE)
    return ctypes.get_errno() if refused else 0
