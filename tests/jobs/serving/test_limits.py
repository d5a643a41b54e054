"""What a client can do to the server: large, slow, many, broken, leaving; others are answered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request

from jobs.serving import read_uploads
from jobs.serving.http_server import bound_socket
from jobs.serving.label_api import LabelApi, RequestLimits
from jobs.serving.offered_models import OfferedModels
from jobs.serving.read_uploads import RefusedRequestError
from jobs.serving.request_metrics import RequestMetrics
from jobs.serving.serve_options import ServeOptions
from models.artifact import Artifact
from pipeline.errors import OutputError, UsageError
from pipeline.labeller import Labeller
from tests.support.serve_process import BOUNDARY, FORM_HEADERS, LabelServe, form
from tests.support.waiting import wait_until
from tests.support.watch_process import photo

_LARGEST_BODY = 1 << 20
_MOST_GROWTH_BYTES = 20 << 20


@pytest.fixture(scope="module")
def server(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServe]:
    options = ("-m", str(tiny_model.path), "--max-body", str(_LARGEST_BODY), "--max-pixels", "4000000")
    with LabelServe(tmp_path_factory.mktemp("serve"), *options) as running:
        yield running


def assert_answers(server: LabelServe) -> None:
    assert server.label(("a.png", photo(4))).rows[0]["label_1"] == "blue"


@contextlib.contextmanager
def raw_connection(server: LabelServe) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as opened:
        yield opened


@contextlib.contextmanager
def no_growth(server: LabelServe) -> Iterator[None]:
    """Fail where the server's own memory is much higher at the end of the block than at its begin."""
    process = psutil.Process(server.process.pid)
    before = process.memory_full_info().uss
    yield
    assert process.memory_full_info().uss < before + _MOST_GROWTH_BYTES


def head(body_bytes: int) -> bytes:
    """Return the head of a request whose body has so many bytes."""
    lines = ("POST /v1/label HTTP/1.1", "Host: localhost", f"Content-Length: {body_bytes}")
    return "\r\n".join([*lines, f"Content-Type: {FORM_HEADERS['Content-Type']}", "", ""]).encode()


def decode_worker(server: LabelServe) -> psutil.Process:
    """Return the only decode worker, a child of the fork server."""
    [decoder] = [process for process in server.workers() if process.ppid() != server.process.pid]
    return decoder


def png_bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that says it is `side` x `side` pixels, and is."""
    facts = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(side + 1)) for _ in range(side)) + compressor.flush()
    chunks = ((b"IHDR", facts), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_answers_on_a_kept_connection_do_not_wait_for_acknowledgements() -> None:
    async def has_no_delay() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted = transport.get_extra_info("socket")
                found.set_result(bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))

        with bound_socket(ServeOptions(port=0)) as listener:
            async with await asyncio.get_running_loop().create_server(Accepted, sock=listener):
                with socket.create_connection(listener.getsockname()):
                    return await found

    assert asyncio.run(has_no_delay())


def test_a_body_beyond_the_limit_is_refused_with_and_without_a_declared_length(server: LabelServe) -> None:
    body = form([("a.png", bytes(_LARGEST_BODY + 1))])
    with raw_connection(server) as opened:
        opened.sendall(head(len(body)))
        assert opened.recv(100).startswith(b"HTTP/1.1 413 ")
    connection = server.connection()
    with contextlib.closing(connection):
        chunks = (body[begin : begin + 65536] for begin in range(0, len(body), 65536))
        with contextlib.suppress(ConnectionError):
            connection.request("POST", "/v1/label", chunks, FORM_HEADERS, encode_chunked=True)
        assert connection.getresponse().status == 413
    assert_answers(server)


def test_a_picture_of_few_bytes_and_many_pixels_is_a_row_with_an_error(server: LabelServe) -> None:
    [row] = server.label(("bomb.png", png_bomb(4000))).rows
    assert row["error"] == "too_large: 4000 x 4000 pixels, the limit is 4000000"
    assert_answers(server)


def test_a_client_that_sends_nothing_or_half_a_head_keeps_no_other_waiting(server: LabelServe) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            opened = stack.enter_context(raw_connection(server))
            if number % 2:
                opened.sendall(b"POST /v1/label HTTP/1.1\r\nHost: local")
        assert_answers(server)


@pytest.mark.parametrize("is_trailer", [False, True], ids=["head", "trailer"])
def test_headers_without_an_end_are_cut_off(server: LabelServe, is_trailer: bool) -> None:
    begin = b"POST /v1/label HTTP/1.1\r\nHost: localhost\r\n"
    if is_trailer:
        begin += f"Content-Type: {FORM_HEADERS['Content-Type']}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".encode()
    with no_growth(server), raw_connection(server) as opened, pytest.raises(ConnectionError):
        opened.sendall(begin)
        for number in range(256):
            opened.sendall(f"X-{number}: ".encode() + bytes([97]) * (1 << 20) + b"\r\n")
    assert_answers(server)


@pytest.mark.faults
def test_beyond_a_thousand_idle_connections_the_oldest_makes_room(server: LabelServe) -> None:
    with no_growth(server), contextlib.ExitStack() as stack:
        opened = [stack.enter_context(raw_connection(server)) for _ in range(1200)]
        assert_answers(server)
        # Closed by the server: the oldest at once, each other one 10 s after it was made.
        for connection in opened:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b""


def test_a_body_that_comes_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_uploads, "GRACE_S", 0.05)

    async def never_whole() -> AsyncIterator[bytes]:
        yield form([("a.png", photo(0))])[:-30]
        await asyncio.sleep(3600)

    headers = Headers(FORM_HEADERS)
    with pytest.raises(RefusedRequestError, match="too slowly") as caught:
        asyncio.run(read_uploads.read_uploads(headers, never_whole(), 10, 1 << 20))
    assert caught.value.status == 408


@pytest.mark.faults
def test_a_client_that_sends_a_byte_a_second_is_answered_408(server: LabelServe) -> None:
    with raw_connection(server) as opened:
        opened.sendall(head(100_000) + f"--{BOUNDARY}\r\n".encode())
        opened.settimeout(1.0)
        answer = b""
        while not answer:
            assert_answers(server)
            opened.sendall(b"C")
            with contextlib.suppress(TimeoutError):
                answer = opened.recv(100)
        assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.faults)])
def test_broken_bodies_are_refused_and_leave_nothing_behind(server: LabelServe, count: int) -> None:
    whole = form([("a.png", photo(0))])
    broken = [whole[:length] for length in range(0, len(whole) - 5, 7)]
    broken += [whole.replace(b"form-data", b"\xff\xfe"), whole.replace(b"\r\n", b"\n"), b"--" * 5000, whole[5:]]
    connection = server.connection()
    with no_growth(server), contextlib.closing(connection):
        for number in range(count):
            connection.request("POST", "/v1/label", broken[number % len(broken)], FORM_HEADERS)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 400
    assert [name for name in server.descriptors() if "label-serve" in name] == []
    assert "this is a bug" not in server.logged()
    assert_answers(server)


def test_photos_of_a_client_that_left_are_forgotten(tiny_model: Artifact, tmp_path: Path) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path), "-b", "1") as server:
        decode_worker(server).suspend()
        with raw_connection(server) as opened:
            body = form([(f"{number}.png", photo(number)) for number in range(60)])
            opened.sendall(head(len(body)) + body)
            wait_until(lambda: b"labelserve_waiting_photos 60.0" in server.request("GET", "/metrics").body, "60 photos")
        wait_until(lambda: b"labelserve_waiting_photos 0.0" in server.request("GET", "/metrics").body, "no photo")
        # The watchdog kills the suspended worker; what it had is decoded by another one, and the rest is not.
        assert_answers(server)
        wait_until(lambda: not [name for name in server.descriptors() if "label-serve" in name], "freed memory")


def test_photos_of_clients_that_left_count_until_their_memory_is_free() -> None:
    may_start = threading.Event()

    def start(_name: str) -> Labeller:
        may_start.wait(60)
        raise UsageError("this model never starts")

    async def asked(api: LabelApi) -> int:
        body = form([("a.png", bytes(10_000))])
        messages: Iterator[dict[str, Any]] = iter(
            [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
        )
        headers = [(b"content-type", FORM_HEADERS["Content-Type"].encode()), (b"content-length", b"%d" % len(body))]

        async def receive() -> dict[str, Any]:
            return next(messages)

        scope = {"type": "http", "method": "POST", "path": "/v1/label", "query_string": b"", "headers": headers}
        return (await api.label(Request(scope, receive))).status_code

    models = OfferedModels("never", [], start, lambda answers: None)
    api = LabelApi(models, RequestLimits(64, 1 << 20, 4, 1 << 20), 3, RequestMetrics())
    try:
        statuses = [asyncio.run(asked(api)) for _ in range(6)]
    finally:
        may_start.set()
    assert statuses == [499] * 4 + [503] * 2


def test_a_host_that_is_no_name_of_the_network_is_one_sentence() -> None:
    for host in (".local", "a" * 70 + ".local", "no such host"):
        with pytest.raises(OutputError, match="no such address"), bound_socket(ServeOptions(host=host)):
            pass


def test_photos_beyond_those_that_may_wait_are_refused_with_a_time_to_try_again(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path), "--max-waiting", "5", "-b", "1") as server:
        decode_worker(server).suspend()
        with contextlib.ExitStack() as stack:
            opened = [stack.enter_context(contextlib.closing(server.connection())) for _ in range(5)]
            for number, connection in enumerate(opened):
                connection.request("POST", "/v1/label", form([("a.png", photo(number))]), FORM_HEADERS)
            wait_until(lambda: b"labelserve_waiting_photos 5.0" in server.request("GET", "/metrics").body, "5 photos")
            answer = server.label(("a.png", photo(0)))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            for number, connection in enumerate(opened):
                response = connection.getresponse()
                assert response.status == 200, (number, response.read())
                response.read()
        assert_answers(server)


def test_a_stop_finishes_the_requests_at_work_and_a_reload_loses_none(tiny_model: Artifact, tmp_path: Path) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path)) as server, contextlib.closing(server.connection()) as waiting:
        server.process.send_signal(signal.SIGHUP)
        assert_answers(server)
        wait_until(lambda: "labelling with tiny@" in server.logged(), "the reload")
        assert_answers(server)
        decode_worker(server).suspend()
        waiting.request("POST", "/v1/label", form([("a.png", photo(2))]), FORM_HEADERS)
        wait_until(lambda: b"labelserve_waiting_photos 1.0" in server.request("GET", "/metrics").body, "a photo")
        server.process.terminate()
        answer = waiting.getresponse()
        assert (answer.status, b'"label_1":"red"' in answer.read()) == (200, True)
        assert server.process.wait(timeout=60) == 0
