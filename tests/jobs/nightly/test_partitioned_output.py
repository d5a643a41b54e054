from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
from PIL import Image

from models.artifact import Artifact
from tests.conftest import Command, write_photos
from tests.support.job_helpers import run_job, summary_of, write_job
from tests.support.review_kit import review

DAY_S = 86400
# Calls `run` with a deadline that passes after a number of files, not at a time of day.
CUT_SHORT = """
import sys
from pathlib import Path
from models.artifact import read_artifact
from pipeline.system.cpus import this_machine
from pipeline.planning.plan import Settings, plan_for
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest

def main():
    photos, out, model, files = sys.argv[1:]
    ticks = iter([False] * int(files))
    plan = plan_for(this_machine(), Settings(batch_size=4))
    request = RunRequest(Path(photos), Path(out), read_artifact(Path(model)), plan)
    summary = run(request, Hooks(time_is_up=lambda: next(ticks, True)))
    print(summary.is_cut_short, summary.labelled)

if __name__ == "__main__":
    main()
"""


def _set_day(photo: Path, day: str) -> None:
    seconds = time.mktime(time.strptime(day, "%Y-%m-%d")) - time.timezone + DAY_S // 2
    os.utime(photo, (seconds, seconds))


def _partitions(folder: Path) -> dict[str, list[str]]:
    relation = duckdb.sql(
        f"SELECT date, file_name FROM read_parquet('{folder}/date=*/*.parquet', hive_partitioning=true, "
        "hive_types_autocast=false) ORDER BY ALL"
    )
    assert relation is not None
    found: dict[str, list[str]] = {}
    for day, name in relation.fetchall():
        found.setdefault(str(day), []).append(name)
    return found


def _cut_short(tmp_path: Path, model: Artifact, files: int) -> str:
    script = tmp_path / "cut_short.py"
    script.write_text(CUT_SHORT)
    arguments = [str(tmp_path / "photos"), str(tmp_path / "out.parquet"), str(model.path), str(files)]
    command = [sys.executable, "-P", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


def test_a_run_cut_short_publishes_its_finished_rows_and_the_next_run_continues(
    label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    expected = write_photos(photos, 40)
    assert _cut_short(tmp_path, tiny_model, 10) == "True 10"
    names = list(pd.read_parquet(tmp_path / "out.parquet")["file_name"])
    assert names == sorted(expected)[:10]
    assert label_dir("photos", "out.parquet").returncode == 0
    before = pd.read_parquet(tmp_path / "out.parquet")
    assert dict(zip(before["file_name"], before["label_1"], strict=True)) == expected

    # An early photo changes, an early and a late photo vanish: the run never reaches the late name and keeps its row.
    ordered = sorted(expected)
    Image.new("RGB", (40, 33), (255, 255, 255)).save(photos / ordered[2])
    (photos / ordered[4]).unlink()
    (photos / ordered[35]).unlink()
    assert _cut_short(tmp_path, tiny_model, 20) == "True 1"
    after = pd.read_parquet(tmp_path / "out.parquet").set_index("file_name")
    assert list(after.index) == [name for name in ordered if name != ordered[4]]
    assert after.loc[ordered[2], "label_1"] == "white"
    unseen = ordered[20:]
    assert after.loc[unseen].equals(before.set_index("file_name").loc[unseen])


def test_a_dataset_has_a_partition_for_each_day_and_writes_only_what_changed(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    names = sorted(write_photos(photos, 6))
    for name, day in zip(names, ["2024-01-01"] * 3 + ["2024-01-02"] * 3, strict=True):
        _set_day(photos / name, day)
    job = write_job(tmp_path, tiny_model.path, {"set": 'photos = "photos"\noutput = "set"\npartition_by = "mtime"'})
    assert run_job(job).returncode == 0
    assert _partitions(tmp_path / "set") == {"2024-01-01": names[:3], "2024-01-02": names[3:]}
    untouched = (tmp_path / "set" / "date=2024-01-01" / "labels.parquet").stat().st_ino
    for name in names[3:]:
        _set_day(photos / name, "2024-01-05")
    assert run_job(job).returncode == 0
    assert _partitions(tmp_path / "set") == {"2024-01-01": names[:3], "2024-01-05": names[3:]}
    assert sorted(path.name for path in (tmp_path / "set").glob("date=*")) == ["date=2024-01-01", "date=2024-01-05"]
    assert (tmp_path / "set" / "date=2024-01-01" / "labels.parquet").stat().st_ino == untouched


def test_the_partition_is_the_day_in_the_exif_data_and_otherwise_the_day_of_the_file(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    names = sorted(write_photos(photos, 3, ".jpg"))
    for name, taken in zip(names, ["2019:07:01 23:59:59", "no such day", None], strict=True):
        photo = Image.open(photos / name)
        exif = Image.Exif()
        if taken:
            exif.get_ifd(0x8769)[0x9003] = taken
        photo.save(photos / name, exif=exif)
        _set_day(photos / name, "2024-03-04")
    job = write_job(tmp_path, tiny_model.path, {"s": 'photos = "photos"\noutput = "s"\npartition_by = "exif"'})
    assert run_job(job).returncode == 0
    assert _partitions(tmp_path / "s") == {"2019-07-01": names[:1], "2024-03-04": names[1:]}


def test_rows_of_days_that_are_too_old_are_removed_and_not_labelled_again(tiny_model: Artifact, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = sorted(write_photos(photos, 4))
    for name in names[:2]:
        _set_day(photos / name, "2020-01-01")
    tasks = {
        "table": 'photos = "photos"\noutput = "out.parquet"\nkeep_days = 30',
        "set": 'photos = "photos"\noutput = "set"\npartition_by = "exif"\nkeep_days = 30',
    }
    job = write_job(tmp_path, tiny_model.path, tasks)
    for labelled in ([2, 4], [0, 0]):
        assert run_job(job).returncode == 0
        assert list(pd.read_parquet(tmp_path / "out.parquet")["file_name"]) == names[2:]
        assert [name for day in _partitions(tmp_path / "set").values() for name in day] == names[2:]
        assert [task["labelled"] for task in summary_of(tmp_path)["tasks"]] == labelled
    assert summary_of(tmp_path)["tasks"][1]["pruned"] == 2


def test_a_dataset_without_photos_is_no_failure(tiny_model: Artifact, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    lines = 'photos = "photos"\noutput = "set"\npartition_by = "exif"\nkeep_days = 2\nreport = "page.html"'
    done = run_job(write_job(tmp_path, tiny_model.path, {"s": lines}))
    assert (done.returncode, list((tmp_path / "set").glob("date=*"))) == (0, []), done.stderr
    assert not (tmp_path / "page.html").exists()


def test_the_state_of_a_dataset_lies_beside_it_and_moves_there_once(tiny_model: Artifact, tmp_path: Path) -> None:
    # Case 7.
    names = sorted(write_photos(tmp_path / "photos", 4))
    job = write_job(tmp_path, tiny_model.path, {"s": 'photos = "photos"\noutput = "set"\npartition_by = "mtime"'})
    assert run_job(job).returncode == 0
    state, inside = tmp_path / ".set.label-dir", tmp_path / "set" / ".label-dir"
    inside.mkdir()
    (state / "table.parquet").rename(inside / "table.parquet")
    assert run_job(job).returncode == 0
    assert summary_of(tmp_path)["tasks"][0]["unchanged"] == 4
    assert (state / "table.parquet").exists()
    assert not inside.exists()
    relation = duckdb.sql(f"SELECT file_name FROM '{tmp_path}/set/*/*.parquet' ORDER BY ALL")
    assert relation is not None
    assert [name for (name,) in relation.fetchall()] == names


def test_a_partition_that_is_not_of_the_dataset_is_never_replaced_or_removed(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    # Case 8.
    write_photos(tmp_path / "photos", 3)
    write_photos(tmp_path / "other", 3)
    lines = 'photos = "{}"\noutput = "set"\npartition_by = "mtime"'
    foreign = tmp_path / "set" / "date=2001-01-01" / "labels.parquet"
    foreign.parent.mkdir(parents=True)
    pd.DataFrame({"mine": [1]}).to_parquet(foreign)
    job = write_job(tmp_path, tiny_model.path, {"s": lines.format("photos")})
    done = run_job(job)
    assert (done.returncode, "is not a partition of label-dir" in done.stderr) == (2, True), done.stderr
    assert list(pd.read_parquet(foreign)["mine"]) == [1]
    foreign.unlink()
    assert run_job(job).returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "set").glob("date=*/*")}
    for state in (tmp_path / ".set.label-dir").glob("*.parquet"):
        state.unlink()
    done = run_job(write_job(tmp_path, tiny_model.path, {"s": lines.format("other")}))
    assert (done.returncode, f"holds the labels of {tmp_path}/photos" in done.stderr) == (2, True), done.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "set").glob("date=*/*")} == before


def test_reviews_beside_a_dataset_are_in_its_partitions_after_the_next_run(
    tmp_path: Path, tiny_model: Artifact
) -> None:
    photos, dataset = tmp_path / "photos", tmp_path / "set"
    first, second = write_photos(photos, 2)
    _set_day(photos / first, "2026-01-01")
    _set_day(photos / second, "2026-01-02")
    task = f'photos = "{photos}"\noutput = "{dataset}"\npartition_by = "mtime"\nreport = "{tmp_path}/page.html"'
    job = write_job(tmp_path, tiny_model.path, {"set": task})
    assert run_job(job).returncode == 0
    review(dataset, photos / first, "tiger")
    assert (tmp_path / "set.reviews.sqlite").exists()
    before = (tmp_path / "page.html").stat().st_mtime_ns
    assert run_job(job).returncode == 0
    frame = pd.read_parquet(dataset)
    assert dict(zip(frame["file_name"], frame["reviewed_label"].fillna(""), strict=True)) == {
        first: "tiger",
        second: "",
    }
    assert (tmp_path / "page.html").stat().st_mtime_ns > before


def test_photos_of_one_time_that_swap_names_are_in_their_partition_under_their_new_names(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    # Case 6: the digest of the partition left the names out.
    photos = tmp_path / "photos"
    first, second = write_photos(photos, 2)
    lines = 'photos = "photos"\noutput = "set"\npartition_by = "mtime"'
    job = write_job(tmp_path, tiny_model.path, {"s": lines})
    (photos / second).write_bytes((photos / second).read_bytes() + b"longer")
    for swap in (False, True):
        if swap:
            (photos / first).rename(photos / "spare")
            (photos / second).rename(photos / first)
            (photos / "spare").rename(photos / second)
        for name in (first, second):
            _set_day(photos / name, "2024-03-04")
        assert run_job(job).returncode == 0
        rows = pd.read_parquet(tmp_path / "set" / "date=2024-03-04")
        assert list(rows["label_1"]) == (["white", "black"] if swap else ["black", "white"])


def test_a_day_that_no_calendar_has_makes_no_partition(tiny_model: Artifact, tmp_path: Path) -> None:
    # Case 40: pandas refused to read the dataset.
    photos = tmp_path / "photos"
    (name,) = write_photos(photos, 1, ".jpg")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2021:02:31 10:00:00"
    Image.open(photos / name).save(photos / name, exif=exif)
    _set_day(photos / name, "2024-03-04")
    job = write_job(tmp_path, tiny_model.path, {"s": 'photos = "photos"\noutput = "s"\npartition_by = "exif"'})
    assert run_job(job).returncode == 0
    assert _partitions(tmp_path / "s") == {"2024-03-04": [name]}
    assert len(pd.read_parquet(tmp_path / "s")) == 1
