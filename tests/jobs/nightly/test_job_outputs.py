from __future__ import annotations

import datetime
import json
import re
import shlex
from pathlib import Path

import pytest

from jobs.nightly.job import Job
from jobs.nightly.job_file import load_job
from jobs.nightly.run import lock_of, seconds_until
from models.artifact import Artifact
from pipeline.gone_guard import GoneLimit
from tests.conftest import run_label_dir, write_photos
from tests.support.job_helpers import label_job, run_job, summary_of, write_job

TASK = '[[task]]\nname = "a"\nphotos = "p"\noutput = "a.parquet"\n'
SET = '[[task]]\nname = "s"\nphotos = "p"\noutput = "set"\npartition_by = "run"\n'
SECOND = '[[task]]\nname = "b"\nphotos = "p"\n'


def _mistakes(folder: Path, text: str | bytes, environment: dict[str, str] | None = None) -> list[str]:
    path = folder / "job.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    job = load_job(path, environment or {})
    return [] if isinstance(job, Job) else [str(mistake) for mistake in job]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TASK + SECOND + 'output = "./x/../a.parquet"\n', "line 8: output of task 'b' is the same path as output of"),
        (TASK + SECOND + 'output = "link/a.parquet"\n', "line 8: output of task 'b' is the same path as output of"),
        ('metrics = "job.summary.json"\n' + TASK, "line 1: metrics is the same path as summary"),
        ('summary = "job.toml"\n' + TASK, "line 1: summary is the same path as the job file"),
        (
            'metrics = "r.html"\n' + TASK + 'report = "r.html"\n',
            "line 6: report of task 'a' is the same path as metrics",
        ),
        ('summary = "a.parquet"\n' + TASK, "line 5: output of task 'a' is the same path as summary"),
        (SET + SECOND + 'output = "set/b.csv"\n', "line 9: output of task 'b' lies inside output of task 's'"),
        (SECOND + 'output = "set/x"\npartition_by = "run"\n' + SET, "line 4: output of task 'b' lies inside output"),
    ],
)
def test_outputs_that_overwrite_each_other_are_found_with_their_line(tmp_path: Path, text: str, sentence: str) -> None:
    # Case 11.
    (tmp_path / "link").symlink_to(".")
    found = _mistakes(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(sentence)
    assert label_job("check", str(tmp_path / "job.toml")).returncode == 2
    before = (tmp_path / "job.toml").read_bytes()
    assert label_job("run", str(tmp_path / "job.toml")).returncode == 2
    assert (tmp_path / "job.toml").read_bytes() == before


@pytest.mark.parametrize(("key", "content"), [("summary", '{"mine": 1}'), ("summary", "[" * 9000), ("metrics", "mine")])
def test_a_file_that_is_not_of_the_job_is_never_replaced(
    tiny_model: Artifact, tmp_path: Path, key: str, content: str
) -> None:
    # Case 11.
    write_photos(tmp_path / "p", 3)
    (tmp_path / "precious").write_text(content)
    job = write_job(tmp_path, tiny_model.path, {"a": 'photos = "p"\noutput = "a.csv"'}, f'{key} = "precious"')
    for verb in ("check", "run"):
        done = label_job(verb, str(job))
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert f"{tmp_path}/precious holds no {key}" in done.stderr
    assert (tmp_path / "precious").read_text() == content
    assert not (tmp_path / "a.csv").exists()


def test_two_job_files_in_one_folder_have_their_own_summaries_and_locks(tiny_model: Artifact, tmp_path: Path) -> None:
    # Case 14.
    write_photos(tmp_path / "p", 3)
    first = write_job(tmp_path, tiny_model.path, {"a": 'photos = "p"\noutput = "a.csv"'})
    other = tmp_path / "other.toml"
    other.write_text(first.read_text().replace("a.csv", "b.csv"))
    assert (run_job(first).returncode, run_job(other).returncode) == (0, 0)
    assert summary_of(tmp_path)["job"] == str(first)
    assert json.loads((tmp_path / "other.summary.json").read_text())["job"] == str(other)
    jobs = [load_job(path) for path in (first, other)]
    assert (
        len({lock_of(path, job) for path, job in zip((first, other), jobs, strict=True) if isinstance(job, Job)}) == 2
    )
    other.write_text('summary = "nightly.summary.json"\n' + other.read_text())
    done = run_job(other)
    assert done.returncode == 2
    assert f"nightly.summary.json is the summary of {first}; give each job file its own" in done.stderr
    assert summary_of(tmp_path)["job"] == str(first)


def test_an_empty_variable_takes_the_default(tmp_path: Path) -> None:
    # Case 13.
    (tmp_path / "job.toml").write_text(TASK.replace('"p"', '"${PHOTOS:-photos}"'))
    job = load_job(tmp_path / "job.toml", {"PHOTOS": ""})
    assert isinstance(job, Job)
    assert job.task[0].photos == tmp_path / "photos"


def test_on_failure_is_called_for_mistakes_and_for_a_summary_that_cannot_be_written(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    # Case 37.
    write_photos(tmp_path / "p", 2)
    told = tmp_path / "told.json"
    hook = f"on_failure = \"sh -c 'cat > {told}'\"\n"
    task = {"a": 'photos = "p"\noutput = "a.csv"'}
    for head, code, words in (
        ("sumary = 1\n", 2, "unknown key 'sumary'"),
        ('summary = "missing/s.json"\n', 74, "cannot be written"),
        ('summary = "p"\n', 2, "no regular file"),
    ):
        assert run_job(write_job(tmp_path, tiny_model.path, task, hook + head)).returncode == code
        summary = json.loads(told.read_text())
        assert (summary["exit_code"], words in summary["message"]) == (code, True)
        told.unlink()


def test_a_deadline_equal_to_now_is_now() -> None:
    # Case 42.
    for seconds in (0, 1, 59):
        assert seconds_until("06:00", datetime.datetime(2026, 3, 10, 6, 0, seconds)) == 0
    assert seconds_until("06:00", datetime.datetime(2026, 3, 10, 5, 59, 59)) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TASK.replace('"p"', '"~nosuchuser/p"'), "line 3: photos: there is no home folder of ~nosuchuser"),
        (TASK.replace('"p"', '"p\\u0000q"'), "line 3: photos: the text holds a NUL character"),
        (TASK.replace('"p"', f'"{"x" * 300}"'), "line 3: photos: the path is too long for a file system"),
        (TASK + "include = " + "[" * 5000 + "]" * 5000, "line 5: brackets are nested more than 50 deep"),
        (TASK + "include = " + "[" * 100 + "]" * 100, "line 5: brackets are nested more than 50 deep"),
        (TASK + "keep_days = 99999999", "line 5: keep_days: "),
        (TASK + "timeout = inf", "line 5: timeout: "),
        (TASK + "topk = " + "9" * 5000, "exceeds the limit"),
        (TASK + 'max_gone = "many"', "line 5: max_gone: must be text"),
        (TASK + 'topk = "many"', "line 5: topk: must be a whole number, not 'many'"),
        (TASK + "topk = 0", "line 5: topk: must be at least 1, not 0"),
        (TASK + 'timeout = "long"', "line 5: timeout: must be a number, not 'long'"),
        (TASK + 'follow_links = "maybe"', "line 5: follow_links: must be true or false, not 'maybe'"),
        (TASK + 'include = "*.jpg"', "line 5: include: must be a list, not '*.jpg'"),
        (TASK + "report = 3", "line 5: report: must be a path, as text, not 3"),
        (SET.replace('"run"', '"day"'), "line 5: partition_by: must be 'mtime', 'exif' or 'run', not 'day'"),
        ("on_success = []\n" + TASK, "line 1: on_success: must not be empty, not []"),
        ("task = 3", "line 1: task: must be a list, not 3"),
        ('summary = "/"\n' + TASK, "line 1: summary: must end in the name of a file"),
        ('metrics = ""\n' + TASK, "line 1: metrics: must end in the name of a file"),
        ('summary = ".."\n' + TASK, "line 1: summary: must end in the name of a file"),
    ],
)
def test_an_odd_job_file_is_one_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    # Case 30.
    found = _mistakes(tmp_path, text)
    assert len(found) == 1, found
    assert found[0].startswith(sentence)
    assert len(found[0]) < 300
    done = label_job("run", str(tmp_path / "job.toml"))
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    assert _mistakes(tmp_path, b"\xef\xbb\xbf" + TASK.encode()) == []


def test_a_job_that_would_remove_too_many_rows_stops_with_69(tiny_model: Artifact, tmp_path: Path) -> None:
    # Case 10.
    names = sorted(write_photos(tmp_path / "p", 30))
    lines = 'photos = "p"\noutput = "a.parquet"\nmax_gone = "30%"'
    job = write_job(tmp_path, tiny_model.path, {"a": lines})
    loaded = load_job(job)
    assert isinstance(loaded, Job)
    assert loaded.task[0].max_gone == GoneLimit(0.3)
    assert run_job(job).returncode == 0
    before = (tmp_path / "a.parquet").read_bytes()
    for name in names[:12]:
        (tmp_path / "p" / name).unlink()
    stopped = run_job(job)
    assert stopped.returncode == 69
    assert 'give the task max_gone = "100%" for one run' in stopped.stderr
    assert "--" not in stopped.stderr
    checked = label_job("check", str(job))
    assert "12 of the 30 photos" in checked.stdout + checked.stderr
    assert (tmp_path / "a.parquet").read_bytes() == before
    job.write_text(job.read_text().replace("30%", "50%"))
    assert run_job(job).returncode == 0


def test_a_job_whose_table_is_of_another_folder_is_told_in_words_of_a_job_how_to_go_on(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    """A job file has no options: the sentence names its keys, or a command to run once."""
    write_photos(tmp_path / "p", 2)
    job = write_job(tmp_path, tiny_model.path, {"a": 'photos = "p"\noutput = "a.parquet"'})
    assert run_job(job).returncode == 0
    (tmp_path / "p").rename(tmp_path / "q")
    job.write_text(job.read_text().replace('"p"', '"q"'))
    for done in (run_job(job), label_job("check", str(job))):
        told = done.stdout + done.stderr
        assert done.returncode == 2, told
        assert "give the task another output, or, if the folder was moved, run label-dir --adopt" in told
        assert "--fresh" not in told
    adopted = shlex.split(re.findall("run (label-dir --adopt .*) once", told)[0])
    assert run_label_dir(tiny_model, *adopted[1:]).returncode == 0
    assert run_job(job).returncode == 0


def test_a_report_that_would_replace_a_page_of_others_is_found_by_check_and_fails_its_task_alone(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    """Case 11: files that are not ours."""
    write_photos(tmp_path / "p", 2)
    (tmp_path / "page.html").write_text("<title>My diary</title>")
    lines = 'photos = "p"\noutput = "a.parquet"\nreport = "page.html"'
    job = write_job(tmp_path, tiny_model.path, {"a": lines, "b": 'photos = "p"\noutput = "b.parquet"'})
    for verb in ("check", "run"):
        done = label_job(verb, str(job))
        assert done.returncode == 2
        assert "page.html is no page of label-report" in done.stdout + done.stderr
    assert (tmp_path / "page.html").read_text() == "<title>My diary</title>"
    assert all((tmp_path / name).exists() for name in ("a.parquet", "b.parquet"))
