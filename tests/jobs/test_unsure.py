"""`status = unsure`: labels below a threshold are there, and marked."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact, read_artifact
from tests.conftest import Command, write_photos


@pytest.mark.parametrize(("least", "status"), [("0", "ok"), ("1", "unsure")])
def test_min_prob_marks_labels_below_it_and_keeps_them(
    label_dir: Command, tmp_path: Path, least: str, status: str
) -> None:
    expected = write_photos(tmp_path / "photos", 5)
    done = label_dir("photos", "out.parquet", "--min-prob", least)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert {row["status"] for row in rows} == {status}
    assert {row["file_name"]: row["label_1"] for row in rows} == expected
    assert all(row["prob_1"] > 0 and row["error"] is None for row in rows)


def test_a_copy_of_an_unsure_photo_is_unsure(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 1)
    assert label_dir("photos", "out.parquet", "--min-prob", "1").returncode == 0
    (first,) = (tmp_path / "photos").iterdir()
    first.with_name("copy.png").write_bytes(first.read_bytes())
    assert label_dir("photos", "out.parquet", "--min-prob", "1").returncode == 0
    assert pq.read_table(tmp_path / "out.parquet")["status"].to_pylist() == ["unsure", "unsure"]


def test_a_model_that_was_not_taught_is_never_unsure_by_itself(tiny_model: Artifact) -> None:
    thresholds = read_artifact(tiny_model.path).thresholds
    assert (thresholds.min_probability, thresholds.min_familiarity) == (0.0, -1.0)
