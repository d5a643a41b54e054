"""Servers of object stores for tests, each a process on loopback: moto, Azurite, s3rver and nanio.

Azurite and s3rver come from npm: `make store-servers` installs them beside the packages of Python.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from obstore.store import AzureStore, S3Store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

BUCKET = "bucket"
_SECRETS = {"AWS_ACCESS_KEY_ID": "key-of-the-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests"}
_ACCOUNT = "devstoreaccount1"
# Azurite knows this account and this key, which its manual publishes.
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_MOTO = """
import logging, threading
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("on 127.0.0.1:%d" % server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""
# nanio's own command takes no port 0.
_NANIO = """
import uvicorn
uvicorn.run("nanio.app:build_app", factory=True, host="127.0.0.1", port=0, access_log=False)
"""
_NPM_PROGRAMS = Path(sys.prefix) / "npm/node_modules/.bin"


def npm_program(name: str) -> str | None:
    """Return the path of a program of npm: that of `make store-servers`, or one that is on the search path."""
    return shutil.which(name, path=f"{_NPM_PROGRAMS}:{os.environ.get('PATH', '')}")


def needs_npm_program(name: str) -> pytest.MarkDecorator:
    """Skip a test where a program of npm is missing; continuous integration sets CI, and there the test fails."""
    is_missing = npm_program(name) is None and not os.environ.get("CI")
    return pytest.mark.skipif(is_missing, reason=f"{name} is not installed (make store-servers)")


@dataclass(frozen=True, slots=True)
class StoreServer:
    """A server with one empty bucket, and the credentials that it takes."""

    scheme: str
    port: int
    access_key: str = _SECRETS["AWS_ACCESS_KEY_ID"]
    secret: str = _SECRETS["AWS_SECRET_ACCESS_KEY"]

    def environment(self, port: int) -> dict[str, str]:
        """The environment in which a command finds this store through `port`, and its credentials."""
        if self.scheme == "az":
            return {
                "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
                "AZURE_STORAGE_ACCOUNT_KEY": _ACCOUNT_KEY,
                "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{_ACCOUNT}",
            }
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> ObjectStore:
        """A client of the server itself, for a test to put and to read objects."""
        config = {name.lower(): value for name, value in self.environment(self.port).items()}
        kind = AzureStore if self.scheme == "az" else S3Store
        return kind(BUCKET, config=config, client_options={"allow_http": True})  # type: ignore[arg-type]


@contextlib.contextmanager
def moto() -> Iterator[StoreServer]:
    """An S3 server that knows nearly all of S3, lists keys by name and takes any credentials."""
    with _running([sys.executable, "-c", _MOTO]) as port:
        _make_bucket(port, f"/{BUCKET}", {})
        yield StoreServer("s3", port)


@contextlib.contextmanager
def azurite() -> Iterator[StoreServer]:
    """A server of Azure's blob storage."""
    options = ["--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", "0", "--disableProductStyleUrl"]
    # The client library speaks a newer version of the protocol than Azurite knows by name.
    options += ["--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with _running([_program("azurite-blob"), *options]) as port:
        _make_bucket(port, f"/{_ACCOUNT}/{BUCKET}?restype=container", _signed_by_account_key())
        yield StoreServer("az", port)


@contextlib.contextmanager
def s3rver(folder: Path) -> Iterator[StoreServer]:
    """An S3 server that lists keys in the order of its file system."""
    options = ["--directory", str(folder), "--address", "127.0.0.1", "--port", "0", "--configure-bucket", BUCKET]
    with _running([_program("s3rver"), *options]) as port:
        yield StoreServer("s3", port, "S3RVER", "S3RVER")


@contextlib.contextmanager
def nanio(folder: Path) -> Iterator[StoreServer]:
    """An S3 server that refuses credentials other than its own, for listings too."""
    server = StoreServer("s3", 0)
    (folder / BUCKET).mkdir(parents=True)
    keys = {"NANIO_ACCESS_KEY": server.access_key, "NANIO_SECRET_KEY": server.secret}
    with _running([sys.executable, "-c", _NANIO], {**keys, "NANIO_DATA_DIR": str(folder)}) as port:
        yield StoreServer("s3", port)


def _program(name: str) -> str:
    found = npm_program(name)
    assert found is not None, f"{name} is not installed: make store-servers"
    return found


@contextlib.contextmanager
def _running(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[int]:
    """Start a server and yield the port that it says it listens on; end it afterwards."""
    with subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            told = []
            for line in server.stdout:
                told.append(line)
                if found := re.search(r"127\.0\.0\.1:([1-9]\d*)", line):
                    break
            else:
                raise AssertionError(f"{command[0]} did not start: {''.join(told)}")
            # A server that logs to a full pipe would stop.
            reader = threading.Thread(target=deque, args=(server.stdout, 0))
            reader.start()
            yield int(found[1])
            server.kill()
            reader.join()
        finally:
            server.kill()


def _make_bucket(port: int, path: str, headers: dict[str, str]) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("PUT", path, headers=headers)
        status = connection.getresponse().status
    assert status in (200, 201), status


def _signed_by_account_key() -> dict[str, str]:
    """Return the headers of a request that makes the container; the client library cannot make one."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": now, "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    lines += [f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}", "restype:container"]
    digest = hmac.digest(base64.b64decode(_ACCOUNT_KEY), "\n".join(lines).encode(), hashlib.sha256)
    return {**headers, "Authorization": f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"}
