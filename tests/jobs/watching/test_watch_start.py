"""How a real `watch-folder` starts, and how a signal ends it before it has started."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from models.artifact import Artifact
from pipeline.tables.part_store import state_folder
from tests.support.waiting import wait_until
from tests.support.watch_process import WatchFolder


def _imports(watch: WatchFolder) -> bool:
    return "libarrow" in Path(f"/proc/{watch.process.pid}/maps").read_text(encoding="utf-8")


def _has_locked(watch: WatchFolder) -> bool:
    return (state_folder(watch.labels) / "lock").exists()


def _loads(watch: WatchFolder) -> bool:
    children = psutil.Process(watch.process.pid).children()
    return any(_name(child).startswith("classifier") for child in children)


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _commands_below(watch: WatchFolder) -> list[list[str]]:
    commands = []
    for child in psutil.Process(watch.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            commands.append(child.cmdline())
    return commands


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", [_imports, _has_locked, _loads])
def test_a_signal_before_it_is_ready_ends_it_with_0_and_leaves_nothing(
    tmp_path: Path, tiny_model: Artifact, moment: Callable[[WatchFolder], bool], number: signal.Signals
) -> None:
    with WatchFolder(tmp_path, tiny_model) as watch:
        wait_until(lambda: moment(watch), moment.__name__)
        # A request to load the model again must not end the process, not even this early.
        watch.process.send_signal(signal.SIGHUP)
        children = psutil.Process(watch.process.pid).children(recursive=True)
        assert watch.end(number) == 0, watch.logged()
        assert "Traceback" not in watch.logged()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == [] and list(watch.inbox.iterdir()) == []


def test_the_fork_server_is_forked_from_the_daemon(tmp_path: Path, tiny_model: Artifact) -> None:
    with WatchFolder(tmp_path, tiny_model, "--metrics", "127.0.0.1:0") as watch:
        watch.wait_until_ready()
        own = psutil.Process(watch.process.pid).cmdline()
        assert own in _commands_below(watch), "the fork server was started as a new program"
        assert watch.end() == 0
