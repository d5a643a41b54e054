from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from jobs.nightly import run as job_run
from jobs.nightly.job import Job
from jobs.nightly.job_file import load_job
from jobs.nightly.run import lock_of
from models.artifact import Artifact
from tests.conftest import write_photos
from tests.support.job_helpers import (
    add_waiting_photo,
    label_job,
    run_job,
    start_job,
    summary_of,
    wait_for,
    write_job,
)


def _task(photos: str, output: str, more: str = "") -> str:
    return f'photos = "{photos}"\noutput = "{output}"\n{more}'


def _loaded(path: Path) -> Job:
    job = load_job(path)
    assert isinstance(job, Job), job
    return job


def _labels(table: Path) -> dict[str, str]:
    rows = pd.read_parquet(table)
    return dict(zip(rows["file_name"], rows["label_1"], strict=True))


def test_one_broken_task_of_three_does_not_stop_the_others(tiny_model: Artifact, tmp_path: Path) -> None:
    first, third = write_photos(tmp_path / "a", 20), write_photos(tmp_path / "c", 12)
    tasks = {
        "first": _task("a", "a.parquet"),
        "broken": _task("nowhere", "b.parquet"),
        "third": _task("c", "c.parquet"),
    }
    head = 'metrics = "job.prom"\non_failure = "sh -c \'cat > failed.json\'"\non_success = ["touch", "success"]'
    job = write_job(tmp_path, tiny_model.path, tasks, head.replace("failed.json", f"{tmp_path}/failed.json"))
    done = run_job(job)
    assert done.returncode == 66, done.stderr
    assert _labels(tmp_path / "a.parquet") == first
    assert _labels(tmp_path / "c.parquet") == third
    assert done.stdout == ""
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == ["first", "label-job", "third"]
    summary = summary_of(tmp_path)
    assert [(task["name"], task["outcome"], task["exit_code"], task["labelled"]) for task in summary["tasks"]] == [
        ("first", "done", 0, 20),
        ("broken", "failed", 66, 0),
        ("third", "done", 0, 12),
    ]
    assert json.loads((tmp_path / "failed.json").read_text()) == summary
    assert not (tmp_path / "success").exists()
    assert f'label_dir_task_labelled{{job="{job}",task="third"}} 12' in (tmp_path / "job.prom").read_text()


def test_a_quiet_job_prints_nothing_without_new_failures(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 5)
    (tmp_path / "a" / "empty.jpg").touch()
    job = write_job(tmp_path, tiny_model.path, {"a": _task("a", "a.parquet")})
    first = run_job(job, "--quiet")
    assert (first.returncode, "1 failed (1 empty)" in first.stderr) == (3, True)
    second = run_job(job, "--quiet")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert summary_of(tmp_path)["tasks"][0]["failed_before_by_class"] == {"empty": 1}
    assert (tmp_path / "a.parquet").stat().st_mode & 0o777 == 0o600


def test_a_second_run_of_a_job_ends_at_once_and_changes_nothing(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 10)
    add_waiting_photo(tmp_path / "a")
    job = write_job(tmp_path, tiny_model.path, {"a": _task("a", "a.parquet")})
    lock = lock_of(job, _loaded(job))
    with start_job(job, tmp_path / "a") as first:
        try:
            wait_for(lambda: lock.exists() and lock.stat().st_size > 0, first)
            second = run_job(job)
            assert second.returncode == 75
            assert f"is being run by process {first.pid} on " in second.stderr
            assert " since 2" in second.stderr
            assert not (tmp_path / "nightly.summary.json").exists()
        finally:
            (tmp_path / "a" / "released").touch()
        first.communicate(timeout=120)
    assert first.returncode == 0
    assert summary_of(tmp_path)["tasks"][0]["labelled"] == 11
    assert not lock.parent.exists()


def test_a_killed_job_is_completed_by_the_next_run(tiny_model: Artifact, tmp_path: Path) -> None:
    first, second = write_photos(tmp_path / "a", 20), write_photos(tmp_path / "b", 20)
    add_waiting_photo(tmp_path / "b")
    second["zzz-wait.png"] = "black"
    tasks = {"a": _task("a", "a.parquet"), "b": _task("b", "b.parquet")}
    job = write_job(tmp_path, tiny_model.path, tasks)
    with start_job(job, tmp_path / "b") as killed:
        wait_for(lambda: (tmp_path / ".b.parquet.label-dir" / "lock").exists(), killed)
        killed.kill()
    assert not (tmp_path / "nightly.summary.json").exists()
    done = run_job(job)
    assert done.returncode == 0, done.stderr
    assert (_labels(tmp_path / "a.parquet"), _labels(tmp_path / "b.parquet")) == (first, second)
    assert summary_of(tmp_path)["tasks"][0]["unchanged"] == 20


def test_a_stopped_job_reports_it_and_ends_with_the_code_of_the_signal(tiny_model: Artifact, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_photos(tmp_path / name, 20)
    add_waiting_photo(tmp_path / "b")
    tasks = {"a": _task("a", "a.parquet"), "b": _task("b", "b.parquet")}
    job = write_job(tmp_path, tiny_model.path, tasks)
    with start_job(job, tmp_path / "b") as stopped:
        wait_for(lambda: (tmp_path / ".b.parquet.label-dir" / "lock").exists(), stopped)
        stopped.terminate()
        _, errors = stopped.communicate(timeout=120)
    assert stopped.returncode == 143, errors
    assert [task["outcome"] for task in summary_of(tmp_path)["tasks"]] == ["done", "interrupted"]


def test_tasks_not_started_before_the_deadline_are_no_failure(
    tiny_model: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "a", 5)
    path = write_job(tmp_path, tiny_model.path, {"a": _task("a", "a.parquet")}, 'deadline = "06:00"')
    job = load_job(path)
    assert isinstance(job, Job)
    monkeypatch.setattr(job_run, "seconds_until", lambda clock_time, now: 0.0)
    result = job_run.run_job(path, job)
    assert (result.exit_code, result.tasks[0].outcome) == (0, "not_started")
    assert not (tmp_path / "a.parquet").exists()


def test_check_prints_what_would_happen_and_what_would_fail(tiny_model: Artifact, tmp_path: Path) -> None:
    write_photos(tmp_path / "a", 7)
    good = write_job(tmp_path, tiny_model.path, {"a": _task("a", "a.parquet", "keep_days = 9")}, 'deadline = "06:00"')
    done = label_job("check", str(good))
    assert done.returncode == 0, done.stderr
    assert f"a: of the photos below {tmp_path}/a, 7 are new or changed and would be labelled" in done.stdout
    assert "At 06:00 the job would stop" in done.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "nightly.toml"]
    tasks = {"x": _task("nowhere", "a.parquet"), "y": _task("a", "missing/b.parquet")}
    bad = write_job(tmp_path, tiny_model.path, tasks, 'on_failure = "no-such-program"')
    done = label_job("check", str(bad))
    assert done.returncode == 2
    assert f"x: the folder of photos {tmp_path}/nowhere does not exist." in done.stderr
    assert f"y: {tmp_path}/missing/b.parquet cannot be written." in done.stderr
    assert "The command no-such-program is not found in PATH=/usr/bin:/bin." in done.stderr


def test_json_logs_are_one_object_a_line_with_the_values(tiny_model: Artifact, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    tasks = {"a": _task("a", "a.parquet"), "b": _task("no\\nwhere\\u001b[31m", "b.parquet")}
    done = run_job(write_job(tmp_path, tiny_model.path, tasks), "--log-format", "json")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["level"], line["task"], line["outcome"]) for line in lines] == [
        ("info", "a", "done"),
        ("error", "b", "failed"),
    ]
    assert "\\x1b[31m does not exist" in lines[1]["message"]


def test_a_users_mistake_is_a_sentence_not_a_stack_trace(tmp_path: Path) -> None:
    for arguments in (
        ["run", str(tmp_path / "no.toml")],
        ["run"],
        ["sing"],
        ["install", "x", "--at", "26:00", "--cron"],
    ):
        done = label_job(*arguments)
        assert done.returncode in (2, 66)
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()


def _installed(job: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return label_job("install", str(job), "--at", "02:30", *options)


def test_install_prints_a_line_that_cron_reads_as_the_command(tiny_model: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "50% of it's"
    folder.mkdir()
    done = _installed(write_job(folder, tiny_model.path, {"a": _task("a", "a.parquet")}), "--cron")
    assert done.returncode == 0, done.stderr
    schedule, command = done.stdout.rstrip("\n").split(" * * * ")
    assert schedule == "30 2"
    assert "%" not in command.replace(r"\%", "")
    words = subprocess.run(
        ["/bin/sh", "-c", "printf '%s\\n' " + command.replace(r"\%", "%")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[1:] == ["run", "--quiet", str(folder / "nightly.toml")]
    assert Path(words[0]).name == "label-job"


def test_install_writes_units_that_systemd_accepts_and_installs_nothing(tiny_model: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / 'a $HOME 100%d "q"'
    folder.mkdir()
    job = write_job(folder, tiny_model.path, {"a": _task("a", "a.parquet")})
    done = _installed(job, "--systemd", "--to", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("label-job*")) == [
        "label-job-nightly.service",
        "label-job-nightly.timer",
    ]
    service = (tmp_path / "label-job-nightly.service").read_text()
    assert 'run "' + str(job).replace("$", "$$").replace("%", "%%").replace('"', "\\x22") + '"' in service
    assert "OnCalendar=*-*-* 02:30:00" in (tmp_path / "label-job-nightly.timer").read_text()
