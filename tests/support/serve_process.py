"""A real `label-serve` in a real process on a free port of this computer, and a client for it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from tests.conftest import command_path
from tests.support.waiting import wait_until

_PATIENCE_S = 90.0
BOUNDARY = "a-boundary-of-the-tests"


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers with lower-case names, and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of an answer to photos."""
        assert self.status == 200, self.body
        found: list[dict[str, Any]] = self.json["rows"]
        return found


def form(photos: Sequence[tuple[str, bytes]], **fields: str) -> bytes:
    """Return a multipart/form-data body with `fields` first, then `photos`, each a file name and bytes."""
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="photo"; filename="{name}"', content) for name, content in photos]
    pieces = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    ]
    return b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])


FORM_HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


class LabelServe:
    """`label-serve` with `options`, its log in `folder`; ended at the end of the block."""

    def __init__(self, folder: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.log = folder / "log.txt"
        self._out = folder / "out.txt"
        command = [command_path("label-serve"), "--port", "0", "--pool", "1", "-j", "1", *options]
        with self.log.open("wb") as log, self._out.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, env={**os.environ, **(env or {})})

    def __enter__(self) -> Self:
        wait_until(self._is_ready, "the address")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.logged()
        return self._out.read_text().endswith("/\n")

    @property
    def url(self) -> str:
        """The address that the process printed."""
        return self._out.read_text().strip()

    @property
    def port(self) -> int:
        """The port of the address."""
        return int(self.url.rstrip("/").rpartition(":")[2])

    def logged(self) -> str:
        """Return what the process has written to stderr."""
        return self.log.read_text(encoding="utf-8")

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection, to be closed by the caller."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Return the answer to one request on a connection of its own."""
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def label(self, *photos: tuple[str, bytes], headers: dict[str, str] | None = None, **fields: str) -> Answer:
        """Return the answer to a request with `photos` and form `fields`."""
        return self.request("POST", "/v1/label", form(photos, **fields), FORM_HEADERS | (headers or {}))

    def workers(self) -> list[psutil.Process]:
        """Return the living decode and classifier processes, and the fork server."""
        return [child for child in psutil.Process(self.process.pid).children(recursive=True) if _is_worker(child)]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to end the process, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=_PATIENCE_S)

    def descriptors(self) -> list[str]:
        """Return what the process has open, by the names of the kernel."""
        folder = Path(f"/proc/{self.process.pid}/fd")
        names = []
        for link in folder.iterdir():
            try:
                names.append(os.readlink(link))
            except FileNotFoundError:
                continue
        return names


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "resource_tracker" not in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
