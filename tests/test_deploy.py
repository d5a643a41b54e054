"""The files of deploy/: sound by the schemas of their schedulers, and what they start labels every photo once."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import kubernetes_validate
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from models.artifact import Artifact
from tests.conftest import Command, command_path, write_photos
from tests.support.object_store import FaultProxy
from tests.support.store_servers import BUCKET

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(command_path("label-dir")).parent
# The earliest release in which all fields are stable, and the latest that the schemas are of.
KUBERNETES_VERSIONS = ("1.33", kubernetes_validate.latest_version())
SLURM_SCRIPTS = ("slurm-array.sh", "slurm-merge.sh")
# The options of sbatch that the scripts use, with the values that sbatch takes.
SBATCH_OPTIONS = {
    "job-name": r"[\w-]+",
    "array": r"\d+-\d+(%\d+)?",
    "nodes": r"\d+",
    "ntasks": r"\d+",
    "cpus-per-task": r"\d+",
    "mem": r"\d+[KMGT]",
    "time": r"\d\d:\d\d:\d\d",
    "requeue": None,
    "open-mode": r"append|truncate",
    "output": r"[\w-]+-(%A-%a|%j)\.log",
    "signal": r"(B:)?TERM@\d+",
}
# Small parts, so that each share has some; few processes, because several shares run at a time.
SMALL = {"LABEL_DIR_PART_ROWS": "3", "LABEL_DIR_WORKERS": "1", "LABEL_DIR_POOL": "1", "LABEL_DIR_THREADS": "1"}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def job(name: str) -> dict[str, Any]:
    """Return the specification of the Job in a file of deploy/."""
    spec: dict[str, Any] = next(document["spec"] for document in documents(name) if document["kind"] == "Job")
    return spec


def pod(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = job(name)["template"]["spec"]
    return spec


def run_pod(name: str, environment: dict[str, str], command: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run the container of a Job as its image would: the image's entry point or the Job's, with the Job's arguments."""
    container = pod(name)["containers"][0]
    named = {variable["name"]: variable["value"] for variable in container["env"]}
    program = command or [*container.get("command", ["label-dir"]), *container["args"]]
    return subprocess.run(
        [str(BIN / program[0]), *program[1:]],
        env={**os.environ, **named, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def rows_of(table: Path) -> pa.Table:
    """Return a table without the one column that differs from run to run."""
    return pq.read_table(table).drop_columns("labelled_at")


def assert_all_ended_well(finished: Iterable[subprocess.CompletedProcess[str]]) -> None:
    assert [(done.returncode, done.stderr) for done in finished if done.returncode] == []


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("name", ["kubernetes-job.yaml", "kubernetes-merge.yaml"])
def test_the_kubernetes_files_are_sound_by_the_schema_of_kubernetes(name: str, version: str) -> None:
    for document in documents(name):
        kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents(name)[-1] | {"spec": {"completion": 8}}, version, strict=True)


def test_the_job_keeps_the_rules_of_kubernetes_that_no_schema_states() -> None:
    spec = job("kubernetes-job.yaml")
    assert spec["completionMode"] == "Indexed", "what backoffLimitPerIndex and JOB_COMPLETION_INDEX need"
    assert spec["backoffLimitPerIndex"] >= 1
    assert pod("kubernetes-job.yaml")["containers"][0]["args"][:2] == ["--shard", f"auto/{spec['completions']}"]
    assert spec["parallelism"] <= spec["completions"]
    for name in ("kubernetes-job.yaml", "kubernetes-merge.yaml"):
        policy = job(name)["podFailurePolicy"]["rules"]
        assert policy[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        codes = policy[1]["onExitCodes"]["values"]
        assert codes == sorted(set(codes) - {0})
        assert policy[1]["onExitCodes"]["containerName"] == pod(name)["containers"][0]["name"]
        # Without these two, the API server refuses a podFailurePolicy.
        assert job(name)["podReplacementPolicy"] == "Failed"
        assert pod(name)["restartPolicy"] == "Never"


@pytest.mark.parametrize("name", ["kubernetes-job.yaml", "kubernetes-merge.yaml"])
def test_the_pods_hold_no_credentials_and_no_rights(name: str) -> None:
    spec = pod(name)
    container = spec["containers"][0]
    assert not re.search(r"secret|access_?key|password", (DEPLOY / name).read_text(), re.IGNORECASE)
    assert spec["serviceAccountName"] == documents("kubernetes-job.yaml")[0]["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] >= 30
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_the_image_that_the_job_names_is_built_with_the_tested_store_client() -> None:
    pin = re.search(r"^obstore==.+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pin is not None
    assert f"PACKAGES={pin[0]}" in (DEPLOY / "kubernetes-job.yaml").read_text()
    assert "ARG PACKAGES" in (ROOT / "Dockerfile").read_text()


@pytest.mark.timeout(600)
def test_the_pods_of_the_job_together_label_each_photo_once(
    store: FaultProxy, tiny_model: Artifact, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 26)
    (tmp_path / "photos/text.jpg").write_text("no photo")
    store.put_folder(tmp_path / "photos", "photos/")
    photos = f"s3://{BUCKET}/photos/"
    assert label_dir("--errors-ok", photos, "single.parquet").returncode == 0
    store.gets.clear()
    environment = {"LABEL_DIR_MODEL": str(tiny_model.path), "TMPDIR": str(tmp_path), **SMALL, **store.environment}

    def run_index(index: int) -> subprocess.CompletedProcess[str]:
        return run_pod("kubernetes-job.yaml", environment | {"JOB_COMPLETION_INDEX": str(index)})

    with ThreadPoolExecutor(2) as several:
        assert_all_ended_well(several.map(run_index, range(job("kubernetes-job.yaml")["completions"])))
    assert {count for key, count in store.gets.items() if key.startswith("photos/")} == {1}
    container = pod("kubernetes-merge.yaml")["containers"][0]
    mount = container["volumeMounts"][0]["mountPath"]
    arguments = [re.sub(rf"^{mount}/", f"{tmp_path}/", word) for word in container["args"]]
    assert_all_ended_well([run_pod("kubernetes-merge.yaml", store.environment, [*container["command"], *arguments])])
    assert rows_of(tmp_path / "labels.parquet").equals(rows_of(tmp_path / "single.parquet"))


def test_the_cuts_are_recorded_without_labelling_as_the_manual_says(label_dir: Command, tmp_path: Path) -> None:
    arguments = "--shard 100000/100000"
    assert arguments in (ROOT / "docs/scaling.md").read_text()
    write_photos(tmp_path / "photos", 7)
    done = label_dir(*arguments.split(), "--part-rows", "2", "photos", "parts/")
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "parts") == ["ranges.json"]


def sbatch_options(script: str) -> dict[str, str | None]:
    """Return the options that the `#SBATCH` lines of a script give, which all stand before its first command."""
    lines = (DEPLOY / script).read_text().splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    found = {number: line.removeprefix("#SBATCH --") for number, line in enumerate(lines) if line.startswith("#SBATCH")}
    assert max(found) < first_command, "sbatch reads no further"
    return {text.partition("=")[0]: text.partition("=")[2] or None for text in found.values()}


@pytest.mark.parametrize("script", SLURM_SCRIPTS)
def test_the_slurm_scripts_are_sound(script: str) -> None:
    subprocess.run(["bash", "-n", str(DEPLOY / script)], check=True)
    assert os.access(DEPLOY / script, os.X_OK)
    for option, value in sbatch_options(script).items():
        pattern = SBATCH_OPTIONS[option]
        assert value is None if pattern is None else re.fullmatch(pattern, value or ""), option


def run_slurm(script: str, bin_folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script as slurmd does, with an `srun` that runs the command as it would and records its own options."""
    srun = bin_folder / "srun"
    if not srun.exists():
        srun.write_text(
            textwrap.dedent(
                """\
                #!/bin/bash
                while [[ $1 == --* ]]; do echo "$1" >> "$SRUN_LOG"; shift; done
                exec "$@"
                """
            )
        )
        srun.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "JOB_"))}
    path = f"{bin_folder}:{BIN}:{os.environ['PATH']}"
    return subprocess.run(
        [str(DEPLOY / script)],
        env={**clean, "PATH": path, "SRUN_LOG": str(bin_folder / "log"), **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.timeout(600)
def test_the_tasks_of_the_array_together_label_each_photo_once(
    tiny_model: Artifact, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos of us", 26)
    (tmp_path / "photos of us/text.jpg").write_text("no photo")
    assert label_dir("--errors-ok", "photos of us", "single.parquet").returncode == 0
    options = sbatch_options("slurm-array.sh")
    first, last = map(int, (options["array"] or "").split("-"))
    places = {"PHOTOS": str(tmp_path / "photos of us"), "PARTS": f"{tmp_path}/parts/"}
    (tmp_path / "bin").mkdir()

    def run_task(number: int) -> subprocess.CompletedProcess[str]:
        scheduler = {
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_COUNT": str(last - first + 1),
            "SLURM_CPUS_PER_TASK": options["cpus-per-task"] or "",
        }
        model = {"LABEL_DIR_MODEL": str(tiny_model.path)}
        return run_slurm("slurm-array.sh", tmp_path / "bin", {**scheduler, **model, **places, **SMALL})

    assert_all_ended_well([run_task(first)])
    with ThreadPoolExecutor(2) as several:
        assert_all_ended_well(several.map(run_task, range(first + 1, last + 1)))
    assert f"--cpus-per-task={options['cpus-per-task']}" in (tmp_path / "bin/log").read_text()
    assert len(list((tmp_path / "parts").glob("part-*.parquet"))) == 9
    out = {"OUT": str(tmp_path / "merged.parquet")}
    assert_all_ended_well([run_slurm("slurm-merge.sh", tmp_path / "bin", {**places, **out})])
    assert rows_of(tmp_path / "merged.parquet").equals(rows_of(tmp_path / "single.parquet"))


@pytest.mark.parametrize("script", SLURM_SCRIPTS)
def test_a_slurm_script_says_which_variable_it_lacks(script: str, tmp_path: Path) -> None:
    done = run_slurm(script, tmp_path, {"PHOTOS": "photos"})
    assert done.returncode != 0
    assert "PARTS: the place of the parts" in done.stderr
