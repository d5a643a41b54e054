"""A job under a real cron: Debian's, a schedule of every minute, no terminal, cron's own environment.

python benchmarks/cron.py        as root, on a machine whose crontab is empty and on which no cron runs

The crontab is set for the duration and emptied again; cron is started here and ended here.
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
PATIENCE_S = 200.0


def main() -> None:
    """Install the line that `label-job install --cron` prints, wait for two runs, print what they did."""
    cron, crontab = shutil.which("cron", path="/usr/sbin:/usr/bin"), shutil.which("crontab")
    if cron is None or crontab is None:
        sys.exit("cron is not installed (Debian: apt-get install cron)")
    if subprocess.run([crontab, "-l"], capture_output=True, check=False).stdout.strip():
        sys.exit("the crontab is not empty, and it is not this script's to replace")
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
    """Make photos and a job that keeps the environment it saw."""
    from PIL import Image

    (root / "photos").mkdir()
    for index in range(COLOURS):
        Image.new("RGB", (64, 48), (20 * index, 255 - 20 * index, 90)).save(root / "photos" / f"{index}.png")
    job = root / "nightly.toml"
    # A script of its own, so that no quoting but the job's is tried here.
    look = root / "look.sh"
    look.write_text(f"cd {shlex.quote(str(root))} && (env; umask; readlink /proc/$PPID/cwd; tty) > env.txt\n")
    job.write_text(
        f'on_success = ["sh", "{look}"]\n[[task]]\nname = "colours"\nphotos = "photos"\noutput = "labels.parquet"\n'
    )
    return job


def every_minute(job: Path) -> str:
    """Return what `install` prints for 02:30, for every minute."""
    command = [str(Path(sys.executable).parent / "label-job"), "install", str(job), "--at", "02:30", "--cron"]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert line.startswith("30 2 * * * ")
    return "* * * * * " + line.removeprefix("30 2 * * * ")


def wait_for_run(root: Path, after: str) -> dict[str, object]:
    """Wait for a summary that began later than `after`, print and return it."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < PATIENCE_S:
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
    sys.exit(f"cron did not run the job within {PATIENCE_S:.0f} s")


if __name__ == "__main__":
    main()
