"""The desk shows only photos of its table, below its folder and byte for byte, and records each answer once."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact
from pipeline.errors import ExitCode
from pipeline.reviews.review_file import reviews_path
from tests.conftest import run_label_dir, write_photos
from tests.support.desk_process import DeskServe, sha256_of
from tests.support.review_kit import review

_KILLS = 4
_MANY_KILLS = 50


@pytest.fixture(scope="module")
def labelled(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labelled photos, one of them twice, and with rows whose names lead elsewhere."""
    folder = tmp_path_factory.mktemp("labelled")
    names = sorted(write_photos(folder / "photos", 12))
    (folder / "photos" / "copy.png").write_bytes((folder / "photos" / names[0]).read_bytes())
    (folder / "photos" / "broken.png").write_bytes(b"")
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=folder).returncode == ExitCode.SOME_FAILED
    Image.new("RGB", (40, 40), (1, 2, 3)).save(folder / "secret.png")
    Image.new("RGB", (40, 40), (3, 2, 1)).save(folder / "linked.png")
    (folder / "photos" / "link.png").symlink_to(folder / "linked.png")
    _name_foreign_files(folder)
    return folder


def _name_foreign_files(folder: Path) -> None:
    """Add rows to the table as an attacker would write them, with the right sha256 of files that are none of it."""
    table = pq.read_table(folder / "out.parquet")
    rows = [dict(table.slice(0, 1).to_pylist()[0]) for _ in range(3)]
    targets = {"../secret.png": "secret.png", str(folder / "secret.png"): "linked.png", "link.png": "linked.png"}
    for row, (name, target) in zip(rows, targets.items(), strict=True):
        content = (folder / target).read_bytes()
        # One more byte in the digest of the absolute name keeps all three apart.
        digest = hashlib.sha256(content + b"x").hexdigest() if name.startswith("/") else sha256_of(folder / target)
        row.update(file_name=name, sha256=digest)
    added = pa.concat_tables([table, pa.Table.from_pylist(rows, table.schema)]).sort_by("file_name")
    pq.write_table(added.replace_schema_metadata(table.schema.metadata), folder / "out.parquet")


@pytest.fixture(scope="module")
def desk(labelled: Path, tiny_model: Artifact) -> Iterator[DeskServe]:
    with DeskServe(labelled, tiny_model, "--reviewer", "ann") as serving:
        yield serving


def _confirm(photo: dict[str, Any]) -> dict[str, Any]:
    return {"sha256": photo["sha256"], "kind": "confirm", "last_id": photo["review"]["last_id"]}


def test_each_content_is_queued_once_least_certain_first_and_files_without_a_label_are_not(desk: DeskServe) -> None:
    photos = desk.queue(state="all", limit=100)
    assert len(photos) == 12 + 3
    assert len({photo["sha256"] for photo in photos}) == len(photos)
    probabilities = [photo["labels"][0][1] for photo in photos]
    assert probabilities == sorted(probabilities)
    assert "broken.png" not in {photo["name"] for photo in photos}
    pieces = desk.queue(state="all", limit=4) + desk.queue(state="all", limit=100, after=3)
    assert [photo["sha256"] for photo in pieces] == [photo["sha256"] for photo in photos]


def test_a_picture_is_shown_only_of_a_file_below_the_folder_with_the_bytes_of_its_row(desk: DeskServe) -> None:
    by_name = {photo["name"]: photo["sha256"] for photo in desk.queue(state="all", limit=100)}

    def status(name: str, kind: str = "whole") -> int:
        return desk.request("GET", f"/desk/api/pictures/{by_name[name]}/{kind}").status

    shown = next(name for name in by_name if name.startswith("00005"))
    picture = desk.request("GET", f"/desk/api/pictures/{by_name[shown]}/square")
    assert (picture.status, picture.headers["content-type"], picture.body[:4]) == (200, "image/webp", b"RIFF")
    assert status(shown) == 200
    for name in ("../secret.png", str(desk.table.parent / "secret.png"), "link.png"):
        assert status(name) == 404, name
    Image.new("RGB", (40, 40), (9, 9, 9)).save(desk.photos / shown)
    changed = desk.request("GET", f"/desk/api/pictures/{by_name[shown]}/whole")
    assert (changed.status, changed.json["error"]) == (404, "The file has changed since it was labelled.")
    (desk.photos / shown).unlink()
    assert status(shown) == 404


@pytest.mark.parametrize(
    "path",
    [
        "/desk/api/pictures/..%2f..%2f..%2fetc%2fpasswd/whole",
        f"/desk/api/pictures/{'0' * 64}/whole",
        f"/desk/api/pictures/{'0' * 63}/whole",
        "/desk/api/pictures/00000-black.png/whole",
        f"/desk/api/photos/{'0' * 64}",
        "/desk/..%2fdesk_api.py",
        "/desk/desk_api.py",
    ],
)
def test_what_is_not_in_the_table_cannot_be_asked_for(desk: DeskServe, path: str) -> None:
    assert desk.request("GET", path).status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"request_id": 1, "decisions": []}',
        b'{"request_id": "abcdefgh", "decisions": []}',
        b'{"request_id": "abcdefgh", "decisions": [1]}',
        b'{"request_id": "abcdefgh", "decisions": [{"sha256": "x", "kind": "confirm", "last_id": "0"}]}',
        b'{"request_id": "abcdefgh", "decisions": {"sha256": 1}}',
    ],
)
def test_a_request_that_is_no_review_is_refused(desk: DeskServe, body: bytes) -> None:
    answer = desk.request("POST", "/desk/api/reviews", body, {"Content-Type": "application/json"})
    assert (answer.status, "error" in answer.json) == (400, True)


def test_pages_of_other_sites_and_forms_can_record_nothing(desk: DeskServe) -> None:
    (photo, *_) = desk.queue()
    before = desk.reviewed()
    for headers in (
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
    ):
        headers = {"Content-Type": "application/json", **headers}
        assert desk.request("POST", "/desk/api/reviews", b"{}", headers).status in (403, 415)
    assert desk.say("abcdefgh", {**_confirm(photo), "sha256": "0" * 64}).status == 404
    assert desk.reviewed() == before


def test_an_answer_is_recorded_once_with_who_and_the_label_of_the_table_and_a_stale_one_not(desk: DeskServe) -> None:
    photo = desk.queue()[0]
    said = desk.say("request-a", {**_confirm(photo), "old_label": "forged"}, reviewer="Bob")
    assert said.status == 200
    (state,) = said.json["states"]
    assert (state["label"], state["reviewer"]) == (photo["labels"][0][0], "Bob")
    assert desk.say("request-a", _confirm(photo), reviewer="Bob").json["states"] == [state]
    stale = desk.say("request-b", {**_confirm(photo), "kind": "change", "label": "cyan"})
    assert stale.status == 409
    assert stale.json["conflicts"] == [state]
    assert desk.say("request-c", {**_confirm(photo), "kind": "change", "label": "a\nb"}).status == 400
    assert desk.reviewed()[photo["sha256"]] == photo["labels"][0][0]


def test_the_estimate_counts_photos_reviewed_from_the_beginning_of_the_random_order_alone(
    labelled: Path, tiny_model: Artifact, tmp_path: Path
) -> None:
    home = shutil.copytree(labelled, tmp_path / "home", symlinks=True)
    reviews_path(home / "out.parquet").unlink(missing_ok=True)
    with DeskServe(home, tiny_model) as desk:
        random = desk.queue(order="random", limit=100)

        def say(number: int, **decision: object) -> dict[str, Any]:
            answer = desk.say(f"request-{number}", {**_confirm(random[number]), **decision})
            found: dict[str, Any] = answer.json["progress"]
            return found

        assert say(1)["sample"] == 0, "the first photo of the order is not reviewed, so there is no sample"
        progress = say(0, kind="change", label="no such thing")
        assert (progress["sample"], progress["right"], progress["reviewed"]) == (2, 1, 2)
        progress = say(2, kind="unknown")
        assert (progress["sample"], progress["right"], progress["unknown"]) == (2, 1, 1)
        assert 0 < progress["low"] < 0.5 < progress["high"] < 1
        for number in range(3, len(random)):
            progress = say(number)
        assert progress["low"] == progress["high"] == pytest.approx(13 / 14)


def test_disagreement_with_an_older_table_is_queued_alone(labelled: Path, tiny_model: Artifact, tmp_path: Path) -> None:
    home = shutil.copytree(labelled, tmp_path / "home", symlinks=True)
    table = pq.read_table(home / "out.parquet")
    labels = table.column("label_1").to_pylist()
    labels[3] = "otherwise"
    older = table.set_column(table.schema.get_field_index("label_1"), "label_1", pa.array(labels))
    pq.write_table(older, home / "older.parquet")
    with DeskServe(home, tiny_model, "--since", str(home / "older.parquet")) as desk:
        (photo,) = desk.queue(order="disagreement", state="all")
        assert (photo["name"], photo["old_label"]) == (table.column("file_name")[3].as_py(), "otherwise")


def test_what_another_program_says_meanwhile_is_seen_at_once(desk: DeskServe) -> None:
    photo = next(found for found in desk.queue(limit=100) if (desk.photos / found["name"]).is_file())
    review(desk.table, desk.photos / photo["name"], "tiger", photo["review"]["last_id"])
    assert photo["sha256"] not in {found["sha256"] for found in desk.queue(limit=100)}
    assert desk.request("GET", f"/desk/api/photos/{photo['sha256']}").json["review"]["label"] == "tiger"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--review", "out.parquet"], ExitCode.USAGE),
        (["--photos", "photos"], ExitCode.USAGE),
        (["--review", "missing.parquet", "--photos", "photos"], ExitCode.INPUT_MISSING),
        (["--review", "out.parquet", "--photos", "missing"], ExitCode.INPUT_MISSING),
        (["--review", "out.parquet", "--photos", "photos", "--reviewer", "a\nb"], ExitCode.USAGE),
    ],
)
def test_a_desk_that_cannot_be_is_refused_before_a_model_is_built(
    labelled: Path, options: list[str], code: ExitCode, tmp_path: Path
) -> None:
    import subprocess

    from tests.conftest import command_path

    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [command_path("label-serve"), "--port", "0", *options]
    done = subprocess.run(command, cwd=labelled, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def _review_until_killed(home: Path, model: Artifact, kills: int) -> None:
    """Review photos one after the other while the server is killed again and again, as a browser that retries does."""
    acknowledged: list[str] = []
    with DeskServe(home, model) as desk:
        names = [photo["sha256"] for photo in desk.queue(state="all", limit=200)]
    pending = [(f"request-{number}-{secrets.token_hex(4)}", sha256) for number, sha256 in enumerate(names)]
    per_life = -(-len(pending) // (kills + 1))
    while pending:
        with DeskServe(home, model) as desk:
            for number, (request_id, sha256) in enumerate(pending):
                if number == per_life:
                    _kill_in_a_request(desk, request_id, sha256)
                    break
                answer = desk.say(request_id, {"sha256": sha256, "kind": "confirm", "last_id": 0})
                assert answer.status == 200, answer.body
                acknowledged.append(sha256)
            del pending[: number + (number < per_life)]
        assert set(acknowledged) <= set(desk.reviewed()), "a confirmed review is lost"
    assert sorted(acknowledged) == sorted(names)
    assert _rows_of(home) == dict.fromkeys(names, 1), "a review is there twice"


def _kill_in_a_request(desk: DeskServe, request_id: str, sha256: str) -> None:
    """Send a review, and kill the server at a moment of its work that nobody knows."""
    import json
    import random
    import time

    connection = desk.connection()
    body = json.dumps({"request_id": request_id, "decisions": [{"sha256": sha256, "kind": "confirm", "last_id": 0}]})
    connection.request("POST", "/desk/api/reviews", body, {"Content-Type": "application/json"})
    time.sleep(random.random() * 0.02)
    desk.process.send_signal(signal.SIGKILL)
    desk.process.wait()
    connection.close()


def _rows_of(home: Path) -> dict[str, int]:
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(reviews_path(home / "out.parquet"))) as database:
        return dict(database.execute("SELECT sha256, count(*) FROM review GROUP BY sha256").fetchall())


@pytest.fixture
def fresh(tiny_model: Artifact, tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", 60)
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=tmp_path).returncode == 0
    return tmp_path


def test_a_server_that_is_killed_loses_no_confirmed_review_and_records_none_twice(
    fresh: Path, tiny_model: Artifact
) -> None:
    _review_until_killed(fresh, tiny_model, _KILLS)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_server_that_is_killed_fifty_times_loses_no_confirmed_review(fresh: Path, tiny_model: Artifact) -> None:
    _review_until_killed(fresh, tiny_model, _MANY_KILLS)
