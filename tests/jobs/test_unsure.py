"""`status = unsure`: labels below a threshold are there, and marked."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from models.artifact import Artifact, read_artifact
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.prometheus import MetricsServer
from tests.conftest import Command, write_photos
from tests.support.job_helpers import run_job, summary_of, write_job
from tests.support.watch_process import WatchFolder


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


def test_a_run_a_table_query_a_job_and_its_metrics_count_the_unsure(
    label_dir: Command, tiny_model: Artifact, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 5)
    done = label_dir("photos", "out.parquet", "--min-prob", "1")
    assert "5 labelled (5 unsure)" in done.stderr

    task = {"shelf": f'photos = "{tmp_path}/photos"\noutput = "{tmp_path}/job.parquet"\nmin_prob = 1.0'}
    ran = run_job(write_job(tmp_path, tiny_model.path, task, 'metrics = "job.prom"'))
    assert ran.returncode == 0, ran.stderr
    assert summary_of(tmp_path)["tasks"][0]["unsure"] == 5
    assert 'task="shelf"} 5.0' in (tmp_path / "job.prom").read_text().partition("label_dir_task_unsure{")[2]


def test_a_daemon_counts_the_unsure_in_its_status(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "inbox", 3)
    with WatchFolder(tmp_path, tiny_model, "--once", "--min-prob", "1") as watch:
        assert watch.process.wait(120) == 0, watch.logged()
        assert (watch.status()["labelled"], watch.status()["unsure"]) == (3, 3)


def test_prometheus_reads_how_many_photos_are_unsure() -> None:
    server = MetricsServer("127.0.0.1", 0, DaemonStats(labelled=7, unsure=2))
    server.start()
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
            page = answer.read().decode()
    finally:
        server.close()
    assert 'labeldir_images_total{status="unsure"} 2.0' in page
    assert 'labeldir_images_total{status="ok"} 5.0' in page
