"""Killed, suspended or crashed by a photo: every photo keeps its row, and no process outlives the run."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from pipeline.loading.loader_kind import LoaderKind
from tests.conftest import command_path
from tests.faults.live_run import Scene

LONG = pytest.mark.faults
DEADLY = [("abort", "worker_crash"), ("segfault", "worker_crash"), ("hang", "timeout"), ("eat 10 GB", "too_large")]
DEADLY_COLOURS = {"abort": (1, 2, 3), "segfault": (1, 2, 4)}
BROKEN_ANSWERS = {"SIGKILL": (1, 2, 6), "SIGSTOP": (1, 2, 7)}
BOTH_LOADERS = pytest.mark.parametrize("scene", list(LoaderKind), indirect=True)
EITHER_LOADER = pytest.mark.parametrize(
    "scene", [LoaderKind.PIPES, pytest.param(LoaderKind.TORCH, marks=LONG)], indirect=True
)


@pytest.fixture
def scene(tmp_path: Path, tiny_model: Artifact, request: pytest.FixtureRequest) -> Iterator[Scene]:
    with contextlib.closing(Scene(tmp_path, tiny_model, getattr(request, "param", LoaderKind.PIPES))) as scene:
        yield scene


@BOTH_LOADERS
def test_poison_of_every_kind_costs_itself_alone(scene: Scene, tried: Counter[str]) -> None:
    scene.write(90)
    for deed, error_class in DEADLY:
        scene.poison_decoder(f"00040-{deed}.png", deed, error_class)
    scene.poison_classifier("00010-abort.png", DEADLY_COLOURS["abort"])
    scene.poison_classifier("00020-segfault.png", DEADLY_COLOURS["segfault"])
    # The busiest machine decodes an honest photo within this; only the photo that hangs takes so long.
    run = scene.start("-b", 32, "--timeout", 10)
    assert run.wait() == 3, run.told()
    scene.check()
    assert "SIGABRT: aborted" in run.told()
    assert "SIGSEGV: segmentation fault" in run.told()
    tried["poison of six kinds in one folder"] += 1


@pytest.mark.faults
@BOTH_LOADERS
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "two in a batch of 32"])
@pytest.mark.parametrize(("deed", "error_class"), DEADLY)
def test_a_photo_that_kills_decoders(
    scene: Scene, deed: str, error_class: str, count: int, tried: Counter[str]
) -> None:
    scene.write(64)
    for number in range(count):
        scene.poison_decoder(f"0000{number}-{deed}.png", deed, error_class)
    run = scene.start("-b", 32, "--timeout", 10)
    assert run.wait() == 3, run.told()
    scene.check()
    tried[f"a photo that makes decoders {deed}"] += 1


@pytest.mark.faults
@pytest.mark.parametrize("count", [1, 2], ids=["alone", "two in a batch of 32"])
@pytest.mark.parametrize("deed", DEADLY_COLOURS)
def test_a_photo_that_kills_classifiers(scene: Scene, deed: str, count: int, tried: Counter[str]) -> None:
    scene.write(64)
    for number in range(count):
        scene.poison_classifier(f"0000{number}-{deed}.png", DEADLY_COLOURS[deed])
    assert scene.start("-b", 32).wait() == 3
    scene.check()
    tried[f"a photo that makes classifiers {deed}"] += 1


@EITHER_LOADER
@pytest.mark.parametrize("victims", ["classifiers", "decoders", pytest.param("fork_server", marks=LONG)])
@pytest.mark.parametrize("times", [2, pytest.param(50, marks=LONG)])
def test_processes_killed_at_random_cost_no_row(scene: Scene, victims: str, times: int, tried: Counter[str]) -> None:
    scene.write(400 * times)
    generator = random.Random(times)
    run = scene.start("-j", 2, "--pool", 2, slow_s=0.05)
    run.wait_until_at_work()
    killed = 0
    while killed < times:
        run.wait_for(lambda: len(run.decoders()) == len(run.classifiers()) == 2)
        # A photo that two workers in succession died with would get an error row: wait until the retries are done.
        until = scene.decoded() + 20
        run.wait_for(lambda: scene.decoded() >= until)  # noqa: B023 - called at once
        time.sleep(generator.uniform(0, 0.8))
        living = getattr(run, victims)()
        if living:
            generator.choice(living).kill()
            killed += 1
    scene.release()
    assert run.wait(300) == 0, run.told()
    scene.check()
    tried[f"SIGKILL at random: {victims.replace('_', ' ')}"] += times


@EITHER_LOADER
@pytest.mark.parametrize("number", ["SIGKILL", pytest.param("SIGSTOP", marks=LONG)])
@pytest.mark.parametrize("victim", ["decoder", "classifier"])
def test_an_answer_that_breaks_off_does_not_stop_the_run(
    scene: Scene, victim: str, number: str, tried: Counter[str]
) -> None:
    scene.write(300)
    if victim == "decoder":
        scene.poison_decoder("00000-answer.png", f"{number} in an answer", "black")
    else:
        scene.poison_classifier("00000-answer.png", BROKEN_ANSWERS[number], "black")
    run = scene.start("-b", 512, "--topk", 8)
    assert run.wait() == 0, run.told()
    scene.check()
    tried[f"{number} of a {victim} in the middle of an answer"] += 1


@EITHER_LOADER
def test_files_that_are_handed_out_at_greater_length_than_a_pipe_holds(scene: Scene, tried: Counter[str]) -> None:
    scene.write(600, "/".join(letter * 200 for letter in "abcd"))
    run = scene.start("-b", 300, "-j", 1)
    assert run.wait() == 0, run.told()
    scene.check()
    tried["works longer than a pipe"] += 1


@LONG
@BOTH_LOADERS
def test_a_decoder_that_stops_reading_does_not_stop_the_run(scene: Scene, tried: Counter[str]) -> None:
    scene.write(600, "/".join(letter * 200 for letter in "abcd"))
    run = scene.start("-b", 300, "-j", 1)
    run.wait_for(run.decoders)
    run.decoders()[0].suspend()
    assert run.wait() == 0, run.told()
    scene.check()
    tried["SIGSTOP: a decoder to which a long work goes"] += 1


@EITHER_LOADER
def test_what_is_labelled_is_durable_while_a_photo_hangs(scene: Scene, tried: Counter[str]) -> None:
    scene.write(20)
    scene.poison_decoder("hang.png", "hang", "timeout")
    run = scene.start("-b", 4, "--timeout", 600)
    run.wait_for(lambda: scene.durable_rows() == 20, 200)
    run.process.kill()
    assert run.wait() == -signal.SIGKILL
    again = scene.start("--timeout", 5)
    assert again.wait() == 3
    assert ", 20 unchanged" in again.told()
    scene.check()
    tried["SIGKILL of the parent while a photo hangs"] += 1


@EITHER_LOADER
@pytest.mark.parametrize("victims", ["decoders", pytest.param("classifiers", marks=LONG)])
def test_a_suspended_process_does_not_stop_the_run(scene: Scene, victims: str, tried: Counter[str]) -> None:
    scene.write(150)
    scene.add_waiting_photo()
    run = scene.start("-j", 2, "--pool", 2, slow_s=0.02)
    run.wait_until_at_work()
    getattr(run, victims)()[0].suspend()
    run.wait_for(lambda: "suspended from outside" in run.told())
    scene.release()
    assert run.wait() == 0, run.told()
    scene.check()
    tried[f"SIGSTOP: {victims}"] += 1


@EITHER_LOADER
@pytest.mark.parametrize("is_needed", [True, pytest.param(False, marks=LONG)], ids=["needed", "not needed"])
def test_a_suspended_fork_server_does_not_stop_the_run(scene: Scene, is_needed: bool, tried: Counter[str]) -> None:
    scene.write(150)
    scene.add_waiting_photo()
    run = scene.start("-j", 2, "--pool", 2, slow_s=0.02)
    run.wait_until_at_work()
    run.fork_server()[0].suspend()
    if is_needed:
        run.decoders()[0].kill()
    run.wait_for(lambda: "suspended from outside" in run.told())
    scene.release()
    assert run.wait() == 0, run.told()
    scene.check()
    tried["SIGSTOP: fork server"] += 1


@EITHER_LOADER
@pytest.mark.parametrize("times", [1, pytest.param(20, marks=pytest.mark.faults)])
def test_nothing_outlives_a_killed_parent_and_the_next_run_goes_on(
    scene: Scene, times: int, tried: Counter[str]
) -> None:
    scene.write(80)
    generator = random.Random(times)
    for _ in range(times):
        shutil.rmtree(scene.out.parent)
        scene.out.parent.mkdir()
        run = scene.start("-j", 2, "--pool", 2, slow_s=0.2 if times == 1 else 0.02)
        if times == 1:
            run.wait_until_at_work()
        time.sleep(generator.uniform(0, 1 if times == 1 else 4))
        run.process.kill()
        assert run.wait() in (-signal.SIGKILL, 0)
        scene.finish()
        scene.check()
        tried["SIGKILL of the parent, real processes"] += 1


@pytest.mark.parametrize("waits_s", [[6], pytest.param([0.5, 1, 2, 4, 8], marks=LONG)], ids=["some", "all"])
def test_nothing_that_builds_a_model_outlives_a_killed_parent(
    scene: Scene, waits_s: list[float], tried: Counter[str]
) -> None:
    scene.write(2)
    command = [command_path("label-dir"), str(scene.photos), str(scene.out)]
    for wait_s in waits_s:
        run = scene.start_command(command, {"XDG_CACHE_HOME": str(scene.home / "cache")})
        time.sleep(wait_s)
        run.process.kill()
        assert run.wait() == -signal.SIGKILL
        tried["SIGKILL of the parent while a model is built"] += 1


SIGNALS = {
    "SIGINT": ([signal.SIGINT], (130, -signal.SIGINT)),
    "SIGTERM": ([signal.SIGTERM], (143, -signal.SIGTERM)),
    "double SIGINT": ([signal.SIGINT, signal.SIGINT], (130, -signal.SIGINT)),
}


@EITHER_LOADER
@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_keeps_what_is_labelled_and_the_next_run_goes_on(scene: Scene, kind: str, tried: Counter[str]) -> None:
    scene.write(400)
    scene.add_waiting_photo()
    numbers, codes = SIGNALS[kind]
    run = scene.start("-j", 2, "--pool", 2, "-b", 8, slow_s=0.01)
    # More than there is shared memory for: the first of these have been labelled.
    run.wait_for(lambda: scene.decoded() >= 200)
    for number in numbers:
        run.send(number)
        time.sleep(0.1)
    assert run.wait() == codes[0]
    scene.release()
    assert "Traceback" not in run.told()
    assert not scene.out.exists()
    assert list(scene.out.parent.glob(".out.parquet.label-dir/part-*"))
    again = scene.start()
    assert again.wait() == 0
    assert " unchanged, 0 failed" in again.told()
    scene.check()
    tried[f"{kind} at work"] += 1


@pytest.mark.faults
@pytest.mark.timeout(900)
@BOTH_LOADERS
@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_at_any_moment(scene: Scene, kind: str, tried: Counter[str]) -> None:
    scene.write(100)
    generator = random.Random(kind)
    numbers, codes = SIGNALS[kind]
    for _ in range(20):
        shutil.rmtree(scene.out.parent)
        scene.out.parent.mkdir()
        run = scene.start("-j", 2, "--pool", 2, slow_s=0.03)
        time.sleep(generator.uniform(0, 5))
        for number in numbers:
            run.send(number)
            time.sleep(generator.uniform(0, 0.3))
        code = run.wait()
        # A SIGINT before Python has imported its `site` module ends Python itself with 1: nothing of label-dir has run.
        has_begun = "init_import_site" not in run.told()
        assert code in (*codes, 0) or (code == 1 and not has_begun), run.told()
        scene.finish()
        scene.check()
        tried[f"{kind} at a random moment"] += 1


def test_of_two_runs_at_once_the_second_names_the_first(scene: Scene, tried: Counter[str]) -> None:
    scene.write(100)
    scene.add_waiting_photo()
    first = scene.start()
    lock = scene.out.parent / ".out.parquet.label-dir" / "lock"
    first.wait_for(lambda: lock.exists() and lock.stat().st_size)
    second = scene.start()
    assert second.wait() == 75
    assert f"is being written by process {first.process.pid} on " in second.told()
    scene.release()
    assert first.wait() == 0
    scene.check()
    tried["two runs at once"] += 1


@EITHER_LOADER
def test_64_open_files_are_enough(scene: Scene, tried: Counter[str]) -> None:
    scene.write(40)
    run = scene.start("-j", 2, "--pool", 2, before=["prlimit", "--nofile=64:64"])
    assert run.wait() == 0, run.told()
    scene.check()
    tried["64 open files"] += 1


@EITHER_LOADER
def test_a_small_dev_shm_is_enough(scene: Scene, tried: Counter[str]) -> None:
    small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*small, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    scene.write(40)
    run = scene.start("-b", 64, before=small)
    assert run.wait() == 0, run.told()
    scene.check()
    tried["/dev/shm of 64 kB"] += 1


@pytest.mark.faults
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize(("injected", "code"), [("signal=SIGKILL", -9), ("error=EIO", 74), ("error=ENOSPC", 74)])
def test_system_calls_of_the_real_command_that_fail(
    scene: Scene, call: str, injected: str, code: int, tried: Counter[str]
) -> None:
    scene.write(20)
    for at in range(1, 4):
        shutil.rmtree(scene.out.parent)
        scene.out.parent.mkdir()
        inject = ["strace", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:{injected}:when={at}"]
        run = scene.start(before=inject)
        ended = run.wait()
        if ended == 0:
            break
        assert ended in (code, 128 - code), run.told()
        scene.finish()
        scene.check()
        tried[f"strace: {call} {injected}"] += 1
