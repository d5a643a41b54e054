"""A labeller: good for any number of passes, however the last one ended; and all its classifiers share the work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from pipeline.decoding.decode import decode_file
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.inference.pool import Pool
from pipeline.inference.worker import ClassifierSetup
from pipeline.labeller import Labeller
from pipeline.planning.plan import Settings, plan_for
from pipeline.records import Batch, Classified, FileRef, Prediction
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import this_machine
from pipeline.system.shared_array import Slab
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


@pytest.mark.parametrize("batch_size", [1, 4, 16, 64])
def test_an_object_store_is_asked_for_many_photos_in_advance_whatever_the_batch(batch_size: int) -> None:
    plan = plan_for(this_machine(), Settings(batch_size=batch_size)).reading_ahead()
    assert plan.loader.prefetch * batch_size >= 32
    assert plan.slots > plan.loader.workers * plan.loader.prefetch


def test_a_few_photos_are_shared_by_all_classifiers(tiny_model: Artifact, tmp_path: Path) -> None:
    expected = write_photos(tmp_path / "photos", 9)
    refs = tuple(walk(tmp_path / "photos", WalkRules(), WalkCounts()))
    plan = plan_for(this_machine(), Settings(pool=2))
    slab = Slab.sized(1, 9, tiny_model.preprocessing.crop.crop_size)
    rules = DecodeRules(tiny_model.preprocessing.crop, plan.limits)
    outcomes = tuple(decode_file(ref, rules, slab.slot(0)[position]) for position, ref in enumerate(refs))
    pool = Pool(ClassifierSetup(tiny_model.path, plan.engine, 1, slab), plan.cpu_sets, 60.0, 1 << 30)
    with contextlib.closing(slab), contextlib.closing(pool):
        pool.start()
        pool.wait_until_warm()
        pool.submit(Batch(0, refs, outcomes))
        assert [sum(piece.stop - piece.start for _, piece in worker.pieces) for worker in pool._workers] == [4, 5]
        classified: list[Classified] = []
        while pool.busy:
            classified += pool.collect(1.0)
    ids = [answer.class_ids[0] for answer in classified[0].predictions if isinstance(answer, Prediction)]
    assert [tiny_model.labels[index] for index in ids] == [expected[ref.name] for ref in refs]
