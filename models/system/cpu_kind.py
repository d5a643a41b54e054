"""The kind of a CPU: what the speed and correctness of int8 kernels depend on."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

# The x86 extensions by which onnxruntime chooses its int8 kernels.
KERNEL_FLAGS = ("sse4_1", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8")
INT32_DOT_PRODUCT_FLAGS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})


@dataclass(frozen=True, slots=True)
class CpuKind:
    """`name` as its manufacturer writes it, `machine` as in uname, and those of KERNEL_FLAGS that it has."""

    name: str
    machine: str
    flags: tuple[str, ...]

    @property
    def saturates(self) -> bool:
        """Whether kernels add two uint8 x int8 products in an int16 (vpmaddubsw), which full-range weights overflow."""
        return self.machine in ("x86_64", "AMD64", "i686") and not INT32_DOT_PRODUCT_FLAGS.intersection(self.flags)

    @property
    def key(self) -> str:
        """Eight digits for file names, the same for every CPU of this kind."""
        return hashlib.sha256(repr((self.name, self.machine, self.flags)).encode()).hexdigest()[:8]

    def __str__(self) -> str:
        return f"{self.name} ({self.machine}; {' '.join(self.flags) or 'no int8 extensions known'})"


def cpu_kind(cpuinfo: str, machine: str) -> CpuKind:
    """The kind of CPU that a text of /proc/cpuinfo describes."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    present = set(fields.get("flags", fields.get("features", "")).split())
    name = fields.get("model name") or fields.get("hardware") or machine
    return CpuKind(" ".join(name.split()), machine, tuple(flag for flag in KERNEL_FLAGS if flag in present))


def this_cpu(cpuinfo_path: Path = Path("/proc/cpuinfo")) -> CpuKind:
    """The kind of the CPU that this process runs on."""
    try:
        text = cpuinfo_path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return cpu_kind(text, platform.machine())
