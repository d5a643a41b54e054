"""`POST /v1/label` of a real server: rows as in a table, in the order of the photos, and nothing is left behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from models.artifact import Artifact
from pipeline.tables.cells import column_names
from tests.support.serve_process import LabelServe
from tests.support.tiny_model import COLOURS
from tests.support.watch_process import photo

_HOSTILE = ('<img src=x onerror="x">.png', "../../etc/passwd", "\u202egnp.exe", "=1+1.png")


@pytest.fixture(scope="module")
def server(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServe]:
    with LabelServe(tmp_path_factory.mktemp("serve"), "-m", str(tiny_model.path), "--max-files", "40") as running:
        yield running


def label_of(number: int) -> str:
    return list(COLOURS)[number % len(COLOURS)]


def test_a_photo_gets_a_row_with_the_columns_of_a_table(server: LabelServe, tiny_model: Artifact) -> None:
    content = photo(2)
    [row] = server.label(("cat.png", content)).rows
    assert tuple(row) == column_names(3)
    assert row["file_name"] == "cat.png"
    assert (row["status"], row["error"], row["label_1"]) == ("ok", None, "red")
    assert row["prob_1"] > row["prob_2"] >= row["prob_3"] > 0
    assert (row["width"], row["height"], row["size_bytes"]) == (36, 34, len(content))
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    assert row["model"] == tiny_model.model_id


def test_many_photos_get_rows_in_their_order_and_a_broken_one_its_own_error(server: LabelServe) -> None:
    photos = [(f"{number}.png", photo(number)) for number in range(40)]
    photos[7] = ("broken.png", photos[7][1][:60])
    photos[8] = ("empty.png", b"")
    photos[9] = ("text.png", b"no picture")
    rows = server.label(*photos).rows
    assert [row["file_name"] for row in rows] == [name for name, _ in photos]
    assert [row["error"].split(":")[0] for row in rows[7:10]] == ["truncated", "empty", "not_an_image"]
    for number, row in enumerate(rows):
        if number not in range(7, 10):
            assert row["label_1"] == label_of(number)
            assert row["sha256"] == hashlib.sha256(photos[number][1]).hexdigest()


def test_names_are_data(server: LabelServe) -> None:
    names = [name.replace('"', "%22") for name in _HOSTILE]
    rows = server.label(*((name, photo(1)) for name in names)).rows
    assert [row["file_name"] for row in rows] == names


def test_nothing_of_a_photo_is_left_behind_and_no_file_is_written(server: LabelServe) -> None:
    before = server.descriptors()
    for number in range(20):
        server.label((f"{number}.png", photo(number)), ("broken.png", b"\xff\xd8\xff"))
    uploads = [name for name in server.descriptors() if "label-serve" in name]
    assert uploads == []
    assert len(server.descriptors()) <= len(before) + 1
    deleted = [name for name in server.descriptors() if "(deleted)" in name and not name.startswith("/memfd:")]
    assert deleted == []


def test_a_request_beyond_a_limit_is_refused_in_words(server: LabelServe) -> None:
    answer = server.label(*((f"{number}.png", photo(number)) for number in range(41)))
    assert (answer.status, answer.json) == (400, {"error": "a request has at most 40 photos: send more requests"})
    assert server.label().status == 400
    assert server.request("POST", "/v1/label", b"{}", {"Content-Type": "application/json"}).status == 415
    assert server.request("GET", "/v1/label").status == 405
    answer = server.label(("a.png", photo(0)), model="another")
    assert (answer.status, answer.json) == (404, {"error": "no model another here: /v1/models lists those that are"})


def test_health_models_and_metrics_are_there(server: LabelServe) -> None:
    assert server.request("GET", "/healthz").json == {"status": "ok"}
    assert server.request("GET", "/readyz").status == 200
    assert server.request("GET", "/v1/models").json == {
        "models": [{"name": "tiny", "is_default": True, "is_loaded": True}]
    }
    server.label(("a.png", photo(0)))
    figures = server.request("GET", "/metrics").body.decode()
    assert 'labelserve_photos_total{status="ok"}' in figures
    assert 'labelserve_model_ready{model="tiny"} 1.0' in figures
