"""The running machinery is good for any number of passes, however the one before ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from pipeline.cpus import this_machine
from pipeline.labeller import Labeller
from pipeline.plan import Settings, plan_for
from pipeline.records import FileRef
from pipeline.walk import WalkCounts, WalkRules, walk
from tests.conftest import write_photos


def test_a_pass_that_is_left_early_or_fails_does_not_disturb_the_next(tiny_model: Artifact, tmp_path: Path) -> None:
    expected = write_photos(tmp_path / "photos", 60)
    refs = list(walk(tmp_path / "photos", WalkRules(), WalkCounts()))

    def failing() -> Iterator[FileRef]:
        yield from refs[:30]
        raise RuntimeError("the folder is gone")

    with Labeller(tiny_model, plan_for(this_machine(), Settings(batch_size=4))) as labeller:
        first = labeller.rows(iter(refs))
        next(first)
        first.close()  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="the folder is gone"):
            list(labeller.rows(failing()))
        assert {row.file_name: row.labels[0] for row in labeller.rows(iter(refs))} == expected
