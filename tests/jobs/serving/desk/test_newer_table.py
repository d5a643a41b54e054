"""A run that writes the table while the desk is open: the desk says so, and mixes nothing of the two tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.artifact import Artifact
from tests.conftest import run_label_dir, write_photos
from tests.support.desk_process import DeskServe, sha256_of


@pytest.fixture
def desk(tiny_model: Artifact, tmp_path: Path) -> Iterator[DeskServe]:
    write_photos(tmp_path / "photos", 8)
    _run(tiny_model, tmp_path)
    with DeskServe(tmp_path, tiny_model, "--reviewer", "ann") as serving:
        yield serving


def _run(model: Artifact, folder: Path) -> None:
    assert run_label_dir(model, "photos", "out.parquet", cwd=folder).returncode == 0


def _reading(desk: DeskServe) -> str:
    return str(desk.request("GET", "/desk/api/start").json["reading"])


def _is_outdated(desk: DeskServe) -> bool:
    return bool(desk.request("GET", "/desk/api/queue").json["is_outdated"])


def _relabel(table: Path, label: str) -> None:
    """Write the table anew with another first label for all photos, as a run with another model does."""
    rows = pq.read_table(table)
    number = rows.schema.get_field_index("label_1")
    changed = rows.set_column(number, rows.schema.field(number), pa.array([label] * rows.num_rows))
    pq.write_table(changed, table.with_suffix(".new"))
    table.with_suffix(".new").replace(table)


def test_a_newer_run_is_told_and_shown_once_the_page_is_loaded_again(desk: DeskServe, tiny_model: Artifact) -> None:
    _reading(desk)
    assert not _is_outdated(desk)
    photo = desk.photos / "new.png"
    Image.new("RGB", (50, 50), (250, 5, 5)).save(photo)
    _run(tiny_model, desk.table.parent)
    assert _is_outdated(desk)
    assert "new.png" not in {found["name"] for found in desk.queue(limit=100)}
    _reading(desk)
    assert not _is_outdated(desk)
    assert "new.png" in {found["name"] for found in desk.queue(limit=100)}
    assert desk.request("GET", f"/desk/api/pictures/{sha256_of(photo)}/square").status == 200


def test_an_answer_to_a_label_that_the_table_has_no_more_is_refused(desk: DeskServe) -> None:
    reading = _reading(desk)
    (photo, *_) = desk.queue(limit=100)
    _relabel(desk.table, "otherwise")
    confirmation = {"sha256": photo["sha256"], "kind": "confirm", "last_id": 0}
    # This page still shows the label that the person confirms.
    assert desk.say("request-a", confirmation, reading=reading).status == 200
    assert desk.reviewed() == {photo["sha256"]: photo["labels"][0][0]}
    # Another page was loaded, and this one shows labels of before.
    _reading(desk)
    other = desk.queue(limit=100)[0]
    answer = desk.say("request-b", {"sha256": other["sha256"], "kind": "confirm", "last_id": 0}, reading=reading)
    assert (answer.status, "conflicts" in answer.json) == (409, False)
    assert "newer run" in answer.json["error"]
    assert desk.request("GET", f"/desk/api/queue?reading={reading}").status == 409
    assert list(desk.reviewed()) == [photo["sha256"]]


def test_a_photo_that_a_run_found_changed_is_not_shown_under_its_old_row(desk: DeskServe, tiny_model: Artifact) -> None:
    (photo, *_) = desk.queue()
    path = desk.photos / photo["name"]
    Image.new("RGB", (60, 60), (5, 250, 5)).save(path)
    _run(tiny_model, desk.table.parent)
    old = f"/desk/api/pictures/{photo['sha256']}/whole"
    assert desk.request("GET", old).json["error"] == "The file has changed since it was labelled."
    assert desk.request("GET", f"/desk/api/pictures/{sha256_of(path)}/whole").status == 404
    _reading(desk)
    assert desk.request("GET", old).status == 404
    assert desk.request("GET", f"/desk/api/pictures/{sha256_of(path)}/whole").status == 200


def test_a_newer_table_that_is_damaged_leaves_the_desk_as_it_was(desk: DeskServe) -> None:
    reading = _reading(desk)
    shutil.copy(desk.table, desk.table.with_suffix(".kept"))
    desk.table.write_bytes(b"PAR1 and no more")
    assert _reading(desk) == reading
    assert _is_outdated(desk)
    assert len(desk.queue(limit=100)) == 8
    assert "Traceback" not in desk.logged()
    desk.table.with_suffix(".kept").replace(desk.table)
    _reading(desk)
    assert not _is_outdated(desk)


def test_a_table_that_is_no_table_is_refused_without_a_reviews_file(tiny_model: Artifact, tmp_path: Path) -> None:
    import subprocess

    from tests.conftest import command_path

    write_photos(tmp_path / "photos", 1)
    pq.write_table(pa.table({"something": [1]}), tmp_path / "out.parquet")
    command = [command_path("label-serve"), "--port", "0", "--review", "out.parquet", "--photos", "photos"]
    command += ["-m", str(tiny_model.path), "--pool", "1", "-j", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert not list(tmp_path.glob("*.sqlite*"))
