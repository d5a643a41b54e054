"""Requests that no good client sends: each is answered once and in words, and none hides another one in its body."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.conftest import command_path
from tests.support.serve_process import FORM_HEADERS, LabelServe

_POST = f"POST /v1/label HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM_HEADERS['Content-Type']}\r\n"
_HIDDEN = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
_REFUSED = {
    "two ways to end": f"{_POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_HIDDEN}",
    "two lengths": f"{_POST}Content-Length: 5\r\nContent-Length: 60\r\n\r\nabcde{_HIDDEN}",
    "an unknown encoding": f"{_POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{_HIDDEN}",
    "a negative length": f"{_POST}Content-Length: -5\r\n\r\n{_HIDDEN}",
    "a signed length": f"{_POST}Content-Length: +5\r\n\r\nabcde{_HIDDEN}",
    "a length of 23 digits": f"{_POST}Content-Length: {'9' * 23}\r\n\r\n",
    "a length of 19 digits": f"{_POST}Content-Length: {'9' * 19}\r\n\r\n",
    "a chunk of no number": f"{_POST}Transfer-Encoding: chunked\r\n\r\nxyz\r\n{_HIDDEN}",
    "no host": "GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    "a user in the host": "GET /healthz HTTP/1.1\r\nHost: evil.example@localhost\r\n\r\n",
    "a space before the colon": "GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a folded header": "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "a tunnel": "CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a path with a NUL": "GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another method": "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no path": "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.fixture(scope="module")
def server(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServe]:
    with LabelServe(tmp_path_factory.mktemp("serve"), "-m", str(tiny_model.path)) as running:
        yield running


@pytest.mark.parametrize("name", _REFUSED)
def test_an_ambiguous_request_gets_one_refusal_and_the_end_of_its_connection(server: LabelServe, name: str) -> None:
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as opened:
        opened.sendall(_REFUSED[name].encode())
        while piece := opened.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"localhost" not in answer
    assert server.request("HEAD", "/").status == 200
    assert server.logged() == ""


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_a_server_that_cannot_say_its_address_ends(tiny_model: Artifact, tmp_path: Path, redirection: str) -> None:
    line = f"exec {command_path('label-serve')} --port 0 --pool 1 -j 1 -m {tiny_model.path} {redirection}"
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 74
    assert done.stderr.startswith("label-serve: stdout cannot be written: ")
    assert "Traceback" not in done.stderr


def test_without_the_extra_one_sentence_says_how_to_get_it(tiny_model: Artifact, tmp_path: Path) -> None:
    program = (
        "import importlib.util as found; real = found.find_spec\n"
        "found.find_spec = lambda name, *rest: None if name == 'uvicorn' else real(name, *rest)\n"
        "from jobs.label_serve import main; main()"
    )
    command = [sys.executable, "-c", program, "--port", "0", "-m", str(tiny_model.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert (
        done.stderr
        == "label-serve: label-serve needs the extra `serve`, as in pip install 'label-dir[serve]' (uvicorn)\n"
    )
