"""A run whose photos are labelled by a stub, on a disk that may fail; many of them, each in a fork of one process.

`python -m tests.faults.stub_run` reads one request a line and answers with how that run ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

import pipeline.run
import pipeline.tables.part_store
from models.artifact import Artifact
from models.spec import Crop, Normalisation, Preprocessing
from pipeline.errors import LabelDirError
from pipeline.labeller import LabellerPlan
from pipeline.loading.loader import LoaderPlan
from pipeline.records import ErrorClass, FileRef, ItemError, Row
from pipeline.run_request import Hooks, RunRequest
from pipeline.sources.read_file import ReadLimits
from pipeline.system.cpus import CpuSet
from tests.faults.disk import FailingDisk, FaultKind, Step

ROWS_PER_PART = 7
_NO_PLAN = LabellerPlan("onnxruntime", 1, 1, (CpuSet((0,)),), LoaderPlan(1, 1, (), 1.0, 1, 1), ReadLimits())
_NO_CROP = Preprocessing(Crop(1, 1, "bilinear"), Normalisation((0, 0, 0), (1, 1, 1)))
_NO_MODEL = Artifact(Path("m"), "stub", "0" * 64, "fp32", _NO_CROP, ("a",), {}, {}, {})


@dataclass(frozen=True, slots=True)
class StubRequest:
    """One run; with `steps_to`, the steps it did to the disk are written there."""

    photos: str
    out: str
    kind: FaultKind = "none"
    at: int = 0
    steps_to: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stub run ended: exit code (negative: by that signal), photos labelled, steps done to the disk."""

    exit_code: int
    labelled: int


class _StubLabeller:
    def __init__(self, artifact: Artifact, plan: LabellerPlan, _source: object) -> None:
        self._model_id = artifact.model_id

    def __enter__(self) -> _StubLabeller:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def warm_up(self) -> None:
        pass

    def rows(self, refs: Iterator[FileRef], on_wait: Callable[[], None]) -> Iterator[Row]:
        for ref in refs:
            digest = hashlib.sha256(Path(ref.path).read_bytes()).hexdigest()
            error = ItemError(ErrorClass.DECODE, "stub") if digest[0] == "0" else None
            labels, probabilities = ((), ()) if error else ((digest[:9],), (0.5,))
            yield Row(
                ref.name, error, labels, probabilities, 1, 1, ref.size_bytes, ref.mtime_us, digest, self._model_id, 0
            )


def _run(request: StubRequest) -> Ended:
    disk = FailingDisk(os.path.dirname(request.out), request.kind, request.at)
    disk.install()
    pipeline.run.Labeller = _StubLabeller  # type: ignore[assignment, attr-defined]
    pipeline.tables.part_store.ROWS_PER_PART = ROWS_PER_PART
    commit = pipeline.tables.part_store.PartStore.commit

    def noted_commit(store: pipeline.tables.part_store.PartStore) -> None:
        parts = len(store.committed())
        commit(store)
        # A commit of no rows makes no part, so it is no step that a later run could build on.
        if len(store.committed()) > parts:
            disk.steps.append(Step("committed", disk.folder, str(ROWS_PER_PART).encode()))

    if request.steps_to:
        pipeline.tables.part_store.PartStore.commit = noted_commit  # type: ignore[assignment, method-assign]
    labelled = [0]

    def count(*_: object) -> None:
        labelled[0] += 1

    try:
        pipeline.run.run(RunRequest(Path(request.photos), Path(request.out), _NO_MODEL, _NO_PLAN), Hooks(on_row=count))
        exit_code = 0
    except LabelDirError as error:
        exit_code = int(error.exit_code)
    if request.steps_to:
        with open(request.steps_to, "wb") as stream:
            pickle.dump(disk.steps, stream)
    return Ended(exit_code, labelled[0])


def _answer(request: StubRequest) -> Ended:
    """Run in a fork, so that a kill and the failing disk stay there."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(write_end, json.dumps(asdict(_run(request))).encode())
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        told = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(**json.loads(told)) if told else Ended(code, 0)


class StubRuns:
    """Runs one stub run after the other."""

    def __enter__(self) -> StubRuns:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.stub_run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, request: StubRequest) -> Ended:
        """Do one run to its end, whatever that is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def main() -> None:
    """Answer requests until there are no more."""
    # A thread of Arrow's would not be there in a fork.
    pa.set_cpu_count(1)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asdict(_answer(StubRequest(**json.loads(line))))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
