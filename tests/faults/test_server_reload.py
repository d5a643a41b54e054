"""SIGHUP while clients post photos: each is answered once, by the old model or the new one, with that model's label."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import onnx
import pytest
from onnx import helper

from models.artifact import Artifact, metadata_of, read_artifact
from tests.support.serve_process import FORM_HEADERS, LabelServe, form
from tests.support.tiny_model import COLOURS
from tests.support.waiting import wait_until
from tests.support.watch_process import photo

_CLIENTS = 4


class _Client(threading.Thread):
    """Posts photos until told to stop; `answers` has the model, the label and the expected colour of each."""

    def __init__(self, server: LabelServe, first: int) -> None:
        super().__init__(daemon=True)
        self._server, self._first = server, first
        self.is_over = threading.Event()
        self.wrong: list[str] = []
        self.answers: list[tuple[str, str, str]] = []
        self.refused = 0

    def run(self) -> None:
        with contextlib.closing(self._server.connection()) as connection:
            number = self._first
            while not self.is_over.is_set():
                content = photo(number)
                connection.request("POST", "/v1/label", form([(f"{number}.png", content)]), FORM_HEADERS)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 503:
                    self.refused += 1
                    time.sleep(float(answer.headers["retry-after"]))
                    continue
                if answer.status != 200:
                    self.wrong.append(f"{answer.status} {body!r}")
                    return
                [row] = json.loads(body)["rows"]
                if row["sha256"] != hashlib.sha256(content).hexdigest():
                    self.wrong.append(str(row))
                self.answers.append((row["model"], row["label_1"], list(COLOURS)[number % len(COLOURS)]))
                number += 1


def renamed(artifact: Artifact, target: Path) -> Artifact:
    """Write a model that answers as `artifact` does, in capital letters."""
    model = onnx.load(str(artifact.path))
    loud = dataclasses.replace(artifact, labels=tuple(label.upper() for label in artifact.labels))
    helper.set_model_props(model, metadata_of(loud))
    onnx.save(model, str(target))
    return read_artifact(target)


@pytest.mark.parametrize("reloads", [3, pytest.param(30, marks=pytest.mark.faults)])
def test_reloads_under_load_lose_no_request_and_mix_no_labels(
    tiny_model: Artifact, tmp_path: Path, reloads: int
) -> None:
    quiet = Path(shutil.copy(tiny_model.path, tmp_path / "quiet.onnx"))
    loud = renamed(tiny_model, tmp_path / "loud.onnx")
    served = tmp_path / "shelf.onnx"
    shutil.copy(quiet, served)
    with LabelServe(tmp_path, "-m", str(served), "--pool", "2", "-j", "2", "-b", "4") as server:
        clients = [_Client(server, number * 100_000) for number in range(_CLIENTS)]
        for client in clients:
            client.start()
        for number in range(1, reloads + 1):
            shutil.copy(loud.path if number % 2 else quiet, tmp_path / "new.onnx")
            os.replace(tmp_path / "new.onnx", served)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: server.logged().count("from now on") == number, "the reload")  # type: ignore[misc]
        before = sum(len(client.answers) for client in clients)
        wait_until(lambda: sum(len(client.answers) for client in clients) > before + 20, "answers after the last one")
        for client in clients:
            client.is_over.set()
        for client in clients:
            client.join(timeout=60)
        assert [wrong for client in clients for wrong in client.wrong] == []
        answers = [answer for client in clients for answer in client.answers]
        for model, label, colour in answers:
            assert label == (colour.upper() if model == loud.model_id else colour)
        assert {model for model, _, _ in answers} == {tiny_model.model_id, loud.model_id}
        assert server.label(("a.png", photo(2))).rows[0]["label_1"] == ("RED" if reloads % 2 else "red")


def test_a_new_model_that_is_broken_leaves_the_old_one(tiny_model: Artifact, tmp_path: Path) -> None:
    served = tmp_path / "shelf.onnx"
    shutil.copy(tiny_model.path, served)
    with LabelServe(tmp_path, "-m", str(served)) as server:
        content = served.read_bytes()
        for number, broken in enumerate((b"no model", content[: len(content) // 2], b""), start=1):
            served.write_bytes(broken)
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda number=number: server.logged().count("the old one stays") == number, "the refusal")  # type: ignore[misc]
            assert server.label(("a.png", photo(2))).rows[0]["label_1"] == "red"
        served.unlink()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.logged().count("the old one stays") == 4, "the refusal")
        assert server.label(("a.png", photo(4))).rows[0]["label_1"] == "blue"
        assert server.request("GET", "/readyz").status == 200
        assert "Traceback" not in server.logged()


def test_the_old_model_answers_until_the_new_one_is_ready(tiny_model: Artifact, tmp_path: Path) -> None:
    served = tmp_path / "shelf.onnx"
    shutil.copy(tiny_model.path, served)
    with LabelServe(tmp_path, "-m", str(served)) as server:
        served.unlink()
        # The new model is as slow to read as its writer is to write.
        os.mkfifo(served)
        server.process.send_signal(signal.SIGHUP)
        with served.open("wb"):
            assert server.label(("a.png", photo(2))).rows[0]["label_1"] == "red"
        wait_until(lambda: "the old one stays" in server.logged(), "the refusal")
        assert server.label(("a.png", photo(4))).rows[0]["label_1"] == "blue"
