"""`label-serve` while its workers are killed: every request is answered or refused in words, none with other labels."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from models.artifact import Artifact
from tests.support.serve_process import FORM_HEADERS, LabelServe, form
from tests.support.tiny_model import COLOURS
from tests.support.waiting import wait_until
from tests.support.watch_process import photo

_CLIENTS = 6
_PHOTOS_PER_KILL = 20


class _Client(threading.Thread):
    """Posts `count` photos, two in a request, and notes each answer that is wrong."""

    def __init__(self, server: LabelServe, first: int, count: int) -> None:
        super().__init__(daemon=True)
        self._server, self._numbers = server, range(first, first + count, 2)
        self.wrong: list[str] = []
        self.labelled = self.refused = 0

    def run(self) -> None:
        connection = self._server.connection()
        with contextlib.closing(connection):
            for number in self._numbers:
                photos = [photo(number), photo(number + 1)]
                body = form([(f"{number + index}.png", content) for index, content in enumerate(photos)])
                while True:
                    connection.request("POST", "/v1/label", body, FORM_HEADERS)
                    answer = connection.getresponse()
                    content = answer.read()
                    if answer.status != 503:
                        break
                    self.refused += 1
                    time.sleep(float(answer.headers["retry-after"]))
                self._check(number, photos, answer.status, content)

    def _check(self, number: int, photos: list[bytes], status: int, body: bytes) -> None:
        if status != 200:
            self.wrong.append(f"{number}: {status} {body!r}")
            return
        for index, row in enumerate(json.loads(body)["rows"]):
            digest = hashlib.sha256(photos[index]).hexdigest()
            label = list(COLOURS)[(number + index) % len(COLOURS)]
            if row["status"] == "error" and row["error"].startswith("worker_crash"):
                continue
            if (row["file_name"], row["sha256"], row["label_1"]) != (f"{number + index}.png", digest, label):
                self.wrong.append(f"{number}: {row}")
            self.labelled += 1


def _kills(server: LabelServe, clients: Sequence[_Client], seed: int) -> Iterator[str]:
    """Kill a worker, the fork server included, after each few photos that were labelled, until the clients are done."""
    chance = random.Random(seed)
    before = 0

    def is_due() -> bool:
        labelled = sum(client.labelled for client in clients)
        return labelled >= before + _PHOTOS_PER_KILL or not any(client.is_alive() for client in clients)

    while True:
        wait_until(is_due, "labelled photos")
        if not any(client.is_alive() for client in clients):
            return
        before = sum(client.labelled for client in clients)
        victim = chance.choice(server.workers())
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
            yield str(victim.pid)


@pytest.mark.parametrize("photos", [240, pytest.param(6000, marks=pytest.mark.faults)])
def test_killed_workers_cost_no_request_and_mix_no_labels(tiny_model: Artifact, tmp_path: Path, photos: int) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path), "--pool", "2", "-j", "2", "-b", "4") as server:
        clients = [_Client(server, number * 10_000, photos // _CLIENTS) for number in range(_CLIENTS)]
        for client in clients:
            client.start()
        killed = len(list(_kills(server, clients, seed=photos)))
        for client in clients:
            client.join()
        assert [wrong for client in clients for wrong in client.wrong] == []
        assert killed >= photos // _PHOTOS_PER_KILL // 4
        assert sum(client.labelled for client in clients) > photos * 0.9
        assert server.process.poll() is None
        wait_until(lambda: server.request("GET", "/readyz").status == 200, "a server that is ready")
        assert server.label(("a.png", photo(1))).rows[0]["label_1"] == "white"
        assert [name for name in server.descriptors() if "label-serve" in name] == []
        workers = server.workers()
        server.process.kill()
        # Reaped here, or it would stay the parent of its workers as a zombie.
        server.process.wait()
        wait_until(lambda: not any(worker.is_running() for worker in workers), "the end of the killed server's workers")
