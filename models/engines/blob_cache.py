"""Compiled forms of models in the cache folder: read only whole, only where they are this user's own, else made again.

A compiled form is machine code and weights that an engine loads without any check of its own. So the file begins with
the digest of its name and content, and a file that is damaged, a link, or that others may write counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from models.artifact import ID_DIGITS, Artifact
from models.errors import LabelDirError
from models.manifest import cache_folder
from models.system.atomic_file import write_atomically
from models.system.cpu_kind import this_cpu

_FOLDER = "compiled"
_DIGEST_BYTES = 32


def blob_path(artifact: Artifact, engine: str, version: str, *parts: object) -> Path | None:
    """The path of the form that a version of an engine compiled from an artifact for this kind of CPU; `parts` are all
    else that its bytes depend on. None for a user without a cache folder."""
    key = hashlib.sha256(repr((artifact.sha256, version, parts)).encode()).hexdigest()[:ID_DIGITS]
    model = f"{artifact.name}-{artifact.sha256[:ID_DIGITS]}-{this_cpu().key}"
    try:
        return cache_folder() / _FOLDER / f"{model}-{engine}-{version}-{key}.blob"
    except LabelDirError:
        return None


def read_blob(path: Path) -> bytes | None:
    """The compiled form in a file, None where the file is missing, damaged, or could have been written by others."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            facts = os.fstat(descriptor)
            is_own = facts.st_uid in (os.geteuid(), 0) and not facts.st_mode & stat.S_IWOTH
            if not stat.S_ISREG(facts.st_mode) or not is_own:
                return None
            digest, content = stream.read(_DIGEST_BYTES), stream.read()
    except OSError:
        return None
    return content if digest == _digest(path, content) else None


def write_blob(path: Path, content: bytes) -> None:
    """Keep a compiled form, in one step, and remove those of other versions of its engine; a cache that cannot be
    written stays as it is."""
    of_version = path.name.rpartition("-")[0]
    of_engine = of_version.rpartition("-")[0]
    with contextlib.suppress(OSError):
        write_atomically(path, _digest(path, content) + content)
        for other in path.parent.glob("*.blob"):
            if other.name.startswith(f"{of_engine}-") and not other.name.startswith(f"{of_version}-"):
                other.unlink(missing_ok=True)


def _digest(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\n" + content).digest()
