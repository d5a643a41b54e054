"""Make file permissions bind a process of root."""

from __future__ import annotations

import ctypes

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


def drop_file_privileges() -> None:
    """Drop, from the next exec on, root's right to ignore file permissions; for `preexec_fn`."""
    prctl = ctypes.CDLL(None).prctl
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
