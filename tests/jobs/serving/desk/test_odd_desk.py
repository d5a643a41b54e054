"""The desk of a table and a folder that somebody else has their hands on."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.serving.desk.photo_previews import path_below
from models.artifact import Artifact
from pipeline.reviews.review_file import reviews_path
from tests.conftest import run_label_dir, write_photos
from tests.support.desk_process import DeskServe

_HOSTILE = ("", "x" * 10_000, "a\nb", "\u202edrawkcab", "<img src=x onerror=alert(1)>", "a\0b", "=cmd()", "\U0001f600")


@pytest.fixture
def desk(tiny_model: Artifact, tmp_path: Path) -> Iterator[DeskServe]:
    write_photos(tmp_path / "photos", len(_HOSTILE))
    assert run_label_dir(tiny_model, "photos", "out.parquet", cwd=tmp_path).returncode == 0
    table = pq.read_table(tmp_path / "out.parquet")
    number = table.schema.get_field_index("label_1")
    pq.write_table(table.set_column(number, table.schema.field(number), pa.array(_HOSTILE)), tmp_path / "out.parquet")
    with DeskServe(tmp_path, tiny_model, "--reviewer", "ann") as serving:
        yield serving


def _confirmed(photo: dict[str, Any]) -> dict[str, Any]:
    return {"sha256": photo["sha256"], "kind": "confirm", "last_id": 0}


def test_labels_of_any_kind_are_told_and_confirmed_as_they_are(desk: DeskServe) -> None:
    photos = desk.queue(state="all", limit=100)
    assert sorted(photo["labels"][0][0] for photo in photos) == sorted(_HOSTILE)
    for photo in photos:
        assert desk.say(f"request-{photo['sha256'][:8]}", _confirmed(photo)).status == 200
    assert sorted(desk.reviewed().values()) == sorted(_HOSTILE)
    assert set(_HOSTILE) <= set(desk.request("GET", "/desk/api/start").json["labels"])


def test_a_probability_that_is_no_number_is_shown_as_none_and_holds_up_no_other_photo(
    labelled: Path, tiny_model: Artifact, tmp_path: Path
) -> None:
    home = shutil.copytree(labelled, tmp_path / "home")
    table = pq.read_table(home / "out.parquet")
    odd = [math.nan, math.inf, -math.inf, None, *table["prob_1"].to_pylist()[4:]]
    number = table.schema.get_field_index("prob_1")
    pq.write_table(
        table.set_column(number, table.schema.field(number), pa.array(odd, pa.float32())), home / "out.parquet"
    )
    with DeskServe(home, tiny_model, "--reviewer", "ann") as desk:
        photos = desk.queue(state="all", limit=100)
    assert len(photos) == 30
    assert sorted(photo["labels"][0][1] for photo in photos)[:4] == [0.0] * 4


@pytest.mark.parametrize("name", ["a\\x00b.png", "\\x2e\\x2e/a.png", "a\0b.png", "../a.png"])
def test_a_row_whose_name_leads_out_of_the_folder_or_has_a_nul_has_no_picture(tmp_path: Path, name: str) -> None:
    assert path_below(tmp_path, name) is None


def test_a_reviews_file_that_another_program_holds_is_said_and_nothing_is_lost(desk: DeskServe) -> None:
    (photo, *_) = desk.queue()
    decision = {"sha256": photo["sha256"], "kind": "unknown", "last_id": 0}
    with contextlib.closing(sqlite3.connect(reviews_path(desk.table), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = desk.say("request-1", decision)
        assert (answer.status, "database is locked" in answer.json["error"]) == (503, True)
        other.execute("ROLLBACK")
    assert desk.say("request-1", decision).status == 200


def test_on_a_full_disk_only_answers_that_are_kept_are_said_to_be_and_room_lets_the_rest_in(
    labelled: Path, tiny_model: Artifact, small_disk: Path
) -> None:
    shutil.copytree(labelled, small_disk, dirs_exist_ok=True)
    with DeskServe(small_disk, tiny_model, "--reviewer", "ann") as desk:
        photos = desk.queue(limit=30)
        with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(bytes(4096)):
                pass
        answers = {photo["sha256"]: desk.say(f"request-{photo['sha256'][:9]}", _confirmed(photo)) for photo in photos}
        kept = {digest for digest, answer in answers.items() if answer.status == 200}
        refused = [answer for answer in answers.values() if answer.status != 200]
        assert set(desk.reviewed()) == kept
        assert {(answer.status, "database or disk is full" in answer.json["error"]) for answer in refused} == {
            (503, True)
        }
        (small_disk / "filler").unlink()
        for photo in photos:
            assert desk.say(f"request-{photo['sha256'][:9]}", _confirmed(photo)).status == 200
    assert len(desk.reviewed()) == len(photos)


def test_photos_that_are_away_or_have_other_bytes_at_the_same_time_are_not_shown(desk: DeskServe) -> None:
    (photo, *_) = desk.queue()
    picture = f"/desk/api/pictures/{photo['sha256']}/whole"
    away = desk.photos.with_name("away")
    shutil.move(desk.photos, away)
    assert desk.request("GET", picture).status == 404
    shutil.move(away, desk.photos)
    path = desk.photos / photo["name"]
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert desk.request("GET", picture).json["error"] == "The file has changed since it was labelled."
