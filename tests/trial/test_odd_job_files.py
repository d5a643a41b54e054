"""A job file may hold anything: it is a job, or each mistake is a sentence."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jobs.nightly.check import check_job
from jobs.nightly.job import Job
from jobs.nightly.job_file import failure_command, load_job
from jobs.nightly.run import lock_of
from pipeline.errors import LabelDirError
from tests.trial.damage import SCRATCH, damaged, examples

_VALID = """
summary = "nightly.json"
metrics = "nightly.prom"
deadline = "06:00"
on_success = "true"
on_failure = ["false", "x"]

[[task]]
name = "one"
photos = "photos"
output = "labels.parquet"
model = "missing.onnx"
keep_days = 30
report = "page.html"
max_gone = "30%"
include = ["*.jpg"]

[[task]]
name = "two"
photos = "${HOME:-photos}"
output = "dataset"
model = "missing.onnx"
partition_by = "mtime"
"""
_VALUES = st.sampled_from(
    [
        *(
            "0",
            "-1",
            "1e400",
            "nan",
            "inf",
            "99999999999999999999",
            "true",
            "[]",
            "[[]]",
            "{}",
            "{ a = 1 }",
            '""',
            "''",
        ),
        *(
            '"\\u0000"',
            '"a\\u0000b"',
            '"~nosuchuser/x"',
            '"${NOWHERE}"',
            '"$"',
            '"${A:-${B}}"',
            '"../.."',
            '"/"',
            '"."',
        ),
        *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"25:00"', '"101%"', '"nan%"', "'\"'", '"\\u202e"'),
        *('"' + "x" * 300 + '"', '"' + "x/" * 3000 + '"', '["a", 5]', '[""]', "[" * 200 + "]" * 200, '"""\na\n"""'),
    ]
)


@st.composite
def odd_job_files(draw: st.DrawFn) -> bytes:
    """Draw a job file with lines exchanged, moved, repeated or damaged."""
    lines = _VALID.strip().splitlines()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.integers(0, 3))
        if kind < 2 and "=" in lines[at]:
            lines[at] = f"{lines[at].partition('=')[0]}= {draw(_VALUES)}"
        elif kind == 2:
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        else:
            lines[at] = draw(
                st.sampled_from(["", "[task]", "[[task]]", "[[task.x]]", "a.b = 1", '"" = 1', "x = 1", "]"])
            )
    content = "\n".join(lines).encode()
    return draw(damaged(content)) if draw(st.integers(0, 4)) == 0 else content


@examples(250)
@given(content=odd_job_files())
def test_a_job_file_is_a_job_or_each_mistake_is_a_sentence(content: bytes) -> None:
    folder = Path(tempfile.mkdtemp(prefix="trial-", dir=SCRATCH))
    try:
        path = folder / "nightly.toml"
        path.write_bytes(content)
        (folder / "photos").mkdir()
        job = load_job(path, {"HOME": str(folder / "photos")})
        failure_command(path, {})
        if isinstance(job, Job):
            lock_of(path, job)
            for finding in check_job(path, job):
                assert finding.sentence
        else:
            assert job
            assert all(str(mistake) for mistake in job)
    except LabelDirError as error:
        assert "\n" not in str(error)
    finally:
        shutil.rmtree(folder)
