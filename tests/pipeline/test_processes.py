"""The processes of a run are light, pinned to their CPUs, and gone afterwards."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.artifact import Artifact
from pipeline.labeller import Labeller
from pipeline.loading.loader_kind import LOADER_NAMES, LoaderKind
from pipeline.planning.plan import Settings, plan_for
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import CpuSet, this_machine
from tests.conftest import Command, write_photos


def test_a_classifier_process_imports_neither_torch_nor_pillow(tiny_model: Artifact) -> None:
    program = f"""
import sys
from pathlib import Path
import pipeline.inference.worker
from models.engines import load_engine
load_engine("onnxruntime", Path({str(tiny_model.path)!r}), 1, 3, (0,)).warm_up(1)
print([name for name in ("torch", "torchvision", "PIL", "pyarrow", "onnx") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("loader", LOADER_NAMES)
def test_a_run_imports_neither_torchvision_nor_pandas_and_torch_only_for_its_loader(
    label_dir: Command, tmp_path: Path, loader: str
) -> None:
    write_photos(tmp_path / "photos", 1)
    done = label_dir("--loader", loader, "photos", "out.parquet", env={"PYTHONPROFILEIMPORTTIME": "1"})
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"PIL", "pyarrow"} <= imported
    assert not [name for name in imported if name.startswith(("torchvision", "pandas."))]
    assert ("torch" in imported) == (LoaderKind(loader) is LoaderKind.TORCH)


def test_classifiers_are_pinned_to_their_own_cpus_and_no_process_outlives_a_run(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    expected = write_photos(tmp_path, 40)
    plan = plan_for(this_machine(), Settings(pool=2))
    affinities: dict[int, set[int]] = {}
    labels: dict[str, str] = {}
    with Labeller(tiny_model, plan) as labeller:
        for row in labeller.rows(walk(tmp_path, WalkRules(), WalkCounts())):
            labels[row.file_name] = row.labels[0]
            affinities |= {
                child.pid: os.sched_getaffinity(child.pid)
                for child in multiprocessing.active_children()
                if child.name.startswith("classifier") and child.pid
            }
    assert labels == expected
    assert sorted(affinities.values(), key=min) == [set(cpus.indices) for cpus in sorted(plan.cpu_sets, key=_first)]
    assert multiprocessing.active_children() == []


def _first(cpus: CpuSet) -> int:
    return min(cpus.indices)
