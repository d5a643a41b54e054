"""The real command with real processes, which tests disturb, and checks of what must be true afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from models.artifact import Artifact
from pipeline.loading.fork_server import FORK_SERVER_NAME
from pipeline.loading.loader_kind import LoaderKind
from tests.conftest import command_path, write_photos

_MARK = "LABEL_DIR_TEST_RUN"
POISON = Path(__file__).parent / "poison"
# On a quiet machine 2 s are plenty; how long it took is in the fault table.
_GONE_WITHIN_S = 60.0
SLOWEST_END_S = [0.0]


@dataclass
class Scene:
    """A folder of tiny photos, the label each must get, and where the table goes."""

    home: Path
    model: Artifact
    loader: LoaderKind = LoaderKind.PIPES
    expected: dict[str, str] = field(default_factory=dict)
    runs: list[LiveRun] = field(default_factory=list)

    @property
    def photos(self) -> Path:
        return self.home / "photos"

    @property
    def out(self) -> Path:
        return self.home / "results" / "out.parquet"

    def write(self, count: int, folder: str = "") -> None:
        """Write `count` honest photos into a folder below the photos."""
        written = write_photos(self.photos / folder, count)
        self.expected.update({str(Path(folder) / name): label for name, label in written.items()})
        self.out.parent.mkdir(exist_ok=True)

    def poison_decoder(self, name: str, deed: str, result: str) -> None:
        """Add a photo whose decoding does `deed`, and which must get an error row of class, or label, `result`."""
        text = PngInfo()
        text.add_text("Comment", f"POISON:{deed};")
        Image.new("RGB", (40, 40), (9, 9, 9)).save(self.photos / name, pnginfo=text)
        self.expected[name] = result

    def add_waiting_photo(self) -> None:
        """Add a photo, the last one, whose decoding waits for `release`, so that no run ends before."""
        self.poison_decoder("zzz-wait.png", "wait", "black")

    def release(self) -> None:
        """Let waiting and slow photos decode at full speed, now and in later runs."""
        (self.home / "released").touch()

    def decoded(self) -> int:
        """How many photos have been decoded, those decoded twice counted twice."""
        path = self.home / "decoded"
        return path.stat().st_size if path.exists() else 0

    def poison_classifier(self, name: str, colour: tuple[int, int, int], result: str = "worker_crash") -> None:
        """Add a photo whose classification harms the process."""
        Image.new("RGB", (40, 40), colour).save(self.photos / name)
        self.expected[name] = result

    def start(self, *options: object, before: Sequence[str] = (), slow_s: float = 0.0) -> LiveRun:
        """Start a run; until `release`, every photo takes `slow_s` to decode. `before` is put before the command."""
        environment = {"PYTHONPATH": str(POISON), "POISON_SLOW_S": str(slow_s), "POISON_FOLDER": str(self.home)}
        arguments = [
            command_path("label-dir"),
            "-m",
            self.model.path,
            "--loader",
            self.loader,
            *options,
            self.photos,
            self.out,
        ]
        return self.start_command([*before, *map(str, arguments)], environment)

    def start_command(self, command: Sequence[str], environment: Mapping[str, str]) -> LiveRun:
        """Start any command, with more in its environment."""
        mark = str(uuid.uuid4())
        told = self.home / f"stderr-{mark}"
        shared_memory = _shared_memory()
        with told.open("w") as stderr:
            process = subprocess.Popen(command, env={**os.environ, _MARK: mark, **environment}, stderr=stderr)
        self.runs.append(LiveRun(process, mark, told, shared_memory))
        return self.runs[-1]

    def close(self) -> None:
        """End the runs that have not ended."""
        for run in self.runs:
            run.process.kill()
            run.process.wait()

    def finish(self) -> None:
        """Run undisturbed to the end."""
        run = self.start()
        assert run.wait() in (0, 3), run.told()

    def durable_rows(self) -> int:
        """How many rows of a run at work would survive it."""
        return sum(pq.read_metadata(part).num_rows for part in self.out.parent.glob(".*.label-dir/part-*.parquet"))

    def check(self) -> None:
        """Check that each file has one row with its right label or error, and that nothing is left beside the table."""
        table = pq.read_table(self.out).to_pylist()
        found = [(row["file_name"], row["label_1"] or str(row["error"]).partition(":")[0]) for row in table]
        assert len(found) == len(self.expected)
        assert {name: result for name, result in found if self.expected.get(name) != result} == {}
        assert [name for name, _ in found] == sorted(self.expected)
        assert [path.name for path in self.out.parent.iterdir()] == [self.out.name]


@dataclass
class LiveRun:
    """A running `label-dir` and all its processes."""

    process: subprocess.Popen[bytes]
    mark: str
    stderr: Path
    shared_memory_before: set[str]

    def told(self) -> str:
        """What the run has written to stderr so far."""
        return self.stderr.read_text()

    def wait(self, timeout_s: float = 120.0) -> int:
        """Wait for the end of the run, until no process of it is left, and return its exit code."""
        code = self.process.wait(timeout_s)
        self.check_nothing_left()
        return code

    def family(self) -> list[psutil.Process]:
        """All living processes of the run, the command included."""
        return [process for process in psutil.process_iter() if self._is_of_family(process)]

    def classifiers(self) -> list[psutil.Process]:
        """Its classifier workers."""
        return [process for process in self._children(self.process.pid) if _name(process).startswith("classifier")]

    def decoders(self) -> list[psutil.Process]:
        """Its decode workers."""
        return [process for server in self.fork_server() for process in self._children(server.pid)]

    def fork_server(self) -> list[psutil.Process]:
        """Its fork server, which starts its decode workers."""
        return [process for process in self._children(self.process.pid) if _name(process) == FORK_SERVER_NAME]

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 200.0) -> None:
        """Wait until `condition` holds."""
        until_s = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.told()
            assert time.monotonic() < until_s, self.told()
            time.sleep(0.02)

    def wait_until_at_work(self) -> None:
        """Wait until it has all its processes."""
        self.wait_for(lambda: len(self.decoders()) == 2 and len(self.classifiers()) >= 1)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the command, as a terminal or a service manager does."""
        self.process.send_signal(number)

    def check_nothing_left(self) -> None:
        """No process and no shared memory is left soon after the end."""
        ended_s = time.monotonic()
        while (left := [*self.family(), *self._shared_memory()]) and time.monotonic() < ended_s + _GONE_WITHIN_S:
            time.sleep(0.05)
        assert left == []
        SLOWEST_END_S[0] = max(SLOWEST_END_S[0], time.monotonic() - ended_s)

    def _shared_memory(self) -> list[str]:
        new = [name for name in _shared_memory() if name not in self.shared_memory_before]
        return [name for name in new if not _is_mapped(f"/dev/shm/{name}")] if new else []

    def _is_of_family(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == self.mark
        except psutil.Error:
            return False

    def _children(self, pid: int) -> Iterator[psutil.Process]:
        try:
            yield from psutil.Process(pid).children()
        except psutil.Error:
            return


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _shared_memory() -> set[str]:
    """What Python's and torch's processes share; other programs have other names."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("sem.", "psm_", "torch_"))}


def _is_mapped(path: str) -> bool:
    """Tell whether a living process maps this file, which then belongs to another program, or the file is gone."""
    if not Path(path).exists():
        return True
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if path in maps.read_text():
                return True
        except OSError:
            continue
    return False
