"""Runs a test in a network of its own, in which nothing but its own processes can be reached."""

from __future__ import annotations

import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

IN_OWN_NETWORK = "LABEL_DIR_TEST_IN_OWN_NETWORK"
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
_TIMEOUT_S = 900


def in_own_network(test: Callable[..., None]) -> Callable[..., None]:
    """A decorator: pytest runs the test, with its fixtures, in another process, whose only network is a loopback.

    Ray listens on all addresses, and takes 127.0.0.1 for the machine's own.
    """
    if IN_OWN_NETWORK in os.environ:
        return test

    @functools.wraps(test)
    def outside(request: pytest.FixtureRequest) -> None:
        pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", request.node.nodeid]
        pytest_command += ["--timeout", str(_TIMEOUT_S), "-m", "faults or not faults"]
        done = subprocess.run(
            own_network_command(pytest_command),
            cwd=Path(__file__).parents[2],
            env={**os.environ, IN_OWN_NETWORK: "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]

    # pytest takes the fixtures from the signature, which `wraps` says is that of the test.
    del outside.__wrapped__
    marked: Callable[..., None] = pytest.mark.timeout(_TIMEOUT_S + 60)(outside)
    return marked


def own_network_command(command: Sequence[str]) -> list[str]:
    """The command that runs `command` in a network of its own; users other than root need name spaces of users."""
    return ["unshare", "-n" if os.geteuid() == 0 else "-rn", *command]


def bring_up_loopback() -> None:
    """Bring up the loopback of a new network: all of 127.0.0.0/8."""
    assert IN_OWN_NETWORK in os.environ
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
