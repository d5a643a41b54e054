"""A job under a real cron: Debian's, a schedule of every minute, no terminal, cron's own environment.

python benchmarks/cron.py        as root, on a machine whose crontab is empty and on which no cron runs

The script sets the crontab, empties it again at its end, and starts and stops cron.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLOURS = 12
RUN_TIMEOUT_S = 200.0


def main() -> None:
    """Install the line that `label-job install --cron` prints, wait for two runs, print their summaries."""
    cron, crontab = shutil.which("cron", path="/usr/sbin:/usr/bin"), shutil.which("crontab")
    if cron is None or crontab is None:
        sys.exit("cron is not installed (Debian: apt-get install cron)")
    if subprocess.run([crontab, "-l"], capture_output=True, check=False).stdout.strip():
        sys.exit("the crontab is not empty, and this script would replace it")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "50% of o'clock"
        root.mkdir()
        line = every_minute(make_job(root))
        print(f"crontab: {line}")
        subprocess.run([crontab, "-"], input=f"MAILTO=''\n{line}\n", text=True, check=True)
        daemon = subprocess.Popen([cron, "-f"])
        try:
            first = wait_for_run(root, "")
            wait_for_run(root, str(first["began_at"]))
        finally:
            daemon.terminate()
            daemon.wait()
            subprocess.run([crontab, "-r"], check=True)


def make_job(root: Path) -> Path:
    """The job file: photos to label, and a script that records the environment of the job."""
    from PIL import Image

    (root / "photos").mkdir()
    for index in range(COLOURS):
        Image.new("RGB", (64, 48), (20 * index, 255 - 20 * index, 90)).save(root / "photos" / f"{index}.png")
    job = root / "nightly.toml"
    # A separate script, so that only the quoting of the job file is tested.
    record = root / "record.sh"
    record.write_text(f"cd {shlex.quote(str(root))} && (env; umask; readlink /proc/$PPID/cwd; tty) > env.txt\n")
    job.write_text(
        f'on_success = ["sh", "{record}"]\n[[task]]\nname = "colours"\nphotos = "photos"\noutput = "labels.parquet"\n'
    )
    return job


def every_minute(job: Path) -> str:
    """The crontab line that `install` prints for 02:30, changed to every minute."""
    command = [str(Path(sys.executable).parent / "label-job"), "install", str(job), "--at", "02:30", "--cron"]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert line.startswith("30 2 * * * ")
    return "* * * * * " + line.removeprefix("30 2 * * * ")


def wait_for_run(root: Path, after: str) -> dict[str, object]:
    """The first summary of a run that began later than `after`, which is also printed."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < RUN_TIMEOUT_S:
        time.sleep(0.5)
        if not (root / "summary.json").exists():
            continue
        summary: dict[str, object] = json.loads((root / "summary.json").read_text())
        if str(summary["began_at"]) > after:
            tasks = summary["tasks"]
            assert isinstance(tasks, list)
            print(f"began {summary['began_at']}, exit code {summary['exit_code']}: {tasks[0]['message']}")
            if (root / "env.txt").exists():
                print("  seen by the job: " + " | ".join((root / "env.txt").read_text().split("\n")))
            return summary
    sys.exit(f"cron did not run the job within {RUN_TIMEOUT_S:.0f} s")


if __name__ == "__main__":
    main()
