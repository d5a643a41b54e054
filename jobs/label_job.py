"""The command `label-job VERB`: many folders, described by one job file, every night."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.options import context_settings, log_format_option, quiet_option

if TYPE_CHECKING:
    from jobs.nightly.job import Job

_EPILOG = """\b
Examples:
  label-job init nightly.toml               write a commented job file to start from
  label-job check nightly.toml              show each mistake with its line, and what a run would do
  label-job run nightly.toml                run the job
  label-job install nightly.toml --at 02:30 --cron
  label-job install nightly.toml --at 02:30 --systemd
"""
_RUN_EPILOG = """\b
Example:
  label-job run --quiet nightly.toml        silent unless there is an error, as for cron

\b
Exit codes: 0 all tasks done (or stopped by the deadline); 2 mistakes in the file; 3 done, some photos could not be
labelled; 66 a task's input is missing; 69 too many photos are gone; 74 a task's output can't be written; 75 this job
is already running; 130/143 interrupted; 1 a bug. If tasks end differently, the first of these counts: 143, 130, 1, 74,
66, 69, 75, 2, 3.
"""
_CHECK_EPILOG = """\b
Example:
  label-job check nightly.toml

\b
Exit codes: 0 the job can run; 2 mistakes in the file, or something is missing; 66 no such file.
"""
_INIT_EPILOG = """\b
Examples:
  label-job init                            print an example
  label-job init nightly.toml               write it; an existing file is never replaced
"""
_INSTALL_EPILOG = """\b
Examples:
  label-job install nightly.toml --at 02:30 --cron              print the crontab line
  label-job install nightly.toml --at 02:30 --systemd --to .    write a service and a timer here

Nothing is installed: stderr shows the commands to install the line or the units.
"""
_job_file = click.argument("job_file", metavar="JOB.toml", type=click.Path(path_type=Path))


@click.group(epilog=_EPILOG, context_settings=context_settings("LABEL_DIR_JOB"))
@click.version_option(package_name="label-dir")
def command() -> None:
    """Bring the tables of a job file up to date with their photos; made for cron and systemd."""


@command.command(epilog=_RUN_EPILOG)
@_job_file
@quiet_option
@log_format_option
def run(job_file: Path, quiet: bool, log_format: str) -> int:
    """Run all tasks of JOB.toml, one after the other; the others run also when one fails."""
    from jobs.cli.logging_setup import log_to_stderr

    log_to_stderr("label-job", level=logging.ERROR if quiet else logging.WARNING, log_format=log_format)
    job = _loaded(job_file, is_run=True)
    from jobs.nightly.run import run_job

    return run_job(job_file, job).exit_code


@command.command(epilog=_CHECK_EPILOG)
@_job_file
@log_format_option
def check(job_file: Path, log_format: str) -> int:
    """Show what a run of JOB.toml would do, and every mistake in the file; write no table.

    A model that is not built yet is built, so that the run does not have to build it.
    """
    from jobs.cli.logging_setup import log_to_stderr

    log_to_stderr("label-job", log_format=log_format)
    job = _loaded(job_file)
    from jobs.cli.standard_streams import print_text
    from jobs.nightly.check import check_job

    has_problem = False
    for finding in check_job(job_file, job):
        has_problem |= finding.is_problem
        if finding.is_problem:
            logging.getLogger(__name__).error("%s", finding.sentence)
        else:
            print_text(finding.sentence)
    return 2 if has_problem else 0


@command.command(epilog=_INIT_EPILOG)
@click.argument("job_file", metavar="[JOB.toml]", required=False, type=click.Path(path_type=Path))
def init(job_file: Path | None) -> int:
    """Write a commented job file to JOB.toml, or to stdout."""
    from importlib import resources

    from jobs.cli.standard_streams import print_text
    from pipeline.errors import UsageError, output_errors

    example = (resources.files("jobs") / "units" / "example.toml").read_text(encoding="utf-8")
    if job_file is None:
        print_text(example.rstrip("\n"))
        return 0
    if job_file.exists():
        raise UsageError(f"{job_file} exists already; choose another name")
    with output_errors(job_file), job_file.open("x", encoding="utf-8") as stream:
        stream.write(example)
    print_text(f"{job_file} written: edit it, then run label-job check {job_file}", to_stderr=True)
    return 0


@command.command(epilog=_INSTALL_EPILOG)
@_job_file
@click.option("--at", required=True, metavar="HH:MM", help="When to run each day, local time.")
@click.option("--cron", "kind", flag_value="cron", help="Print a line for crontab.")
@click.option("--systemd", "kind", flag_value="systemd", help="Write a service and a timer.")
@click.option(
    "--to", "folder", default=".", type=click.Path(path_type=Path), help="Where to write units.  [default: .]"
)
def install(job_file: Path, at: str, kind: str | None, folder: Path) -> int:
    """Print the crontab line, or write the systemd units, that run JOB.toml every day."""
    import re

    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", at):
        raise click.BadParameter(f"{at!r} is no time of day such as 02:30", param_hint="--at")
    if kind is None:
        raise click.UsageError("use --cron or --systemd")
    _loaded(job_file)
    # cron and systemd do not search the user's PATH.
    program = Path(sys.argv[0]).absolute()
    return _cron(program, job_file.absolute(), at) if kind == "cron" else _systemd(program, job_file, at, folder)


def _cron(program: Path, job_file: Path, at: str) -> int:
    from jobs.cli.standard_streams import print_text
    from jobs.nightly.schedule import cron_line

    print_text(cron_line(program, job_file, at))
    print_text("add this line with: crontab -e", to_stderr=True)
    return 0


def _systemd(program: Path, job_file: Path, at: str, folder: Path) -> int:
    from jobs.cli.standard_streams import print_text
    from jobs.nightly.schedule import verify_messages, write_units

    units = write_units(program, job_file.absolute(), at, folder)
    errors = verify_messages(units)
    if errors:
        logging.getLogger(__name__).error("systemd-analyze verify: %s", errors)
        return 1
    names = " ".join(map(str, units))
    checked = "checked with systemd-analyze verify" if errors == "" else "not checked: no systemd-analyze here"
    print_text(f"{names} written, {checked}; install them with:", to_stderr=True)
    print_text(f"  sudo cp {names} /etc/systemd/system/", to_stderr=True)
    print_text(f"  sudo systemctl daemon-reload && sudo systemctl enable --now {units[1].name}", to_stderr=True)
    return 0


def _loaded(job_file: Path, is_run: bool = False) -> Job:
    """Return the job of a file without mistakes, or log each mistake and end the command with exit code 2.

    A run calls the job's `on_failure` also for mistakes, if that key can be read.
    """
    from jobs.nightly.job_file import failure_command, load_job

    began_at_s = time.time()
    job = load_job(job_file)
    if not isinstance(job, tuple):
        return job
    for mistake in job:
        logging.getLogger(__name__).error("%s: %s", job_file, mistake)
    if is_run:
        from jobs.nightly.run import report_failure

        sentences = "; ".join(map(str, job))
        report_failure(job_file.resolve(), failure_command(job_file), 2, sentences, began_at_s)
    raise click.exceptions.Exit(2)


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-job")


if __name__ == "__main__":
    main()
