"""Notifies systemd: ready, status, alive. Without a service manager nothing is sent."""

from __future__ import annotations

import contextlib
import os
import socket


class SdNotify:
    """The notification socket of `sd_notify(3)`, named by NOTIFY_SOCKET."""

    def __init__(self) -> None:
        # Removed from the environment: a child process would send its own messages for this service.
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, **variables: object) -> None:
        """Send assignments such as READY=1 or STATUS="12 labelled"."""
        if not self._address:
            return
        message = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in variables.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1.0)
            channel.sendto(message.encode(), self._address)
