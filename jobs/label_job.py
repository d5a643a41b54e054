"""The door `label-job VERB`: many folders, one file that describes them, every night."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from jobs.nightly.job_file import Job

_EPILOG = """\b
Examples:
  label-job init nightly.toml               write a commented job file to start from
  label-job check nightly.toml              every mistake with its line; what a run would do
  label-job run nightly.toml                do it
  label-job install nightly.toml --at 02:30 --cron
  label-job install nightly.toml --at 02:30 --systemd
"""
_RUN_EPILOG = """\b
Example:
  label-job run --quiet nightly.toml        silent unless something went wrong, as cron wants it

\b
Exit codes: 0 all tasks done (or stopped by the deadline); 2 mistakes in the file; 3 done, some photos could not be
labelled; 66 a task's input is missing; 74 a task's output can't be written; 75 this job runs already; 130/143
interrupted; 1 a bug. Where tasks end differently the gravest counts: 143, 130, 1, 74, 66, 75, 2, 3.
"""
_CHECK_EPILOG = """\b
Example:
  label-job check nightly.toml

\b
Exit codes: 0 the job can run; 2 mistakes in the file, or something it needs is not there; 66 no such file.
"""
_INIT_EPILOG = """\b
Examples:
  label-job init                            print it
  label-job init nightly.toml               write it; a file that exists is left alone
"""
_INSTALL_EPILOG = """\b
Examples:
  label-job install nightly.toml --at 02:30 --cron              print the crontab line
  label-job install nightly.toml --at 02:30 --systemd --to .    write a service and a timer here

Nothing is put in place: your schedule is yours, and what to do with it is said on stderr.
"""
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

_job_file = click.argument("job_file", metavar="JOB.toml", type=click.Path(path_type=Path))
_log_format = click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of stderr."
)


@click.group(epilog=_EPILOG, context_settings={**_SETTINGS, "auto_envvar_prefix": "LABEL_DIR_JOB"})
@click.version_option(package_name="label-dir")
def command() -> None:
    """Bring many tables up to date with their photos, as one job file says; made for cron and systemd."""


@command.command(epilog=_RUN_EPILOG, context_settings=_SETTINGS)
@_job_file
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but what went wrong.")
@_log_format
def run(job_file: Path, quiet: bool, log_format: str) -> int:
    """Run all tasks of JOB.toml, one after the other; one that fails does not keep the others from running."""
    from jobs.cli.logging_setup import log_to_stderr

    log_to_stderr("label-job", level=logging.ERROR if quiet else logging.WARNING, log_format=log_format)
    job = _loaded(job_file)
    if job is None:
        return 2
    from jobs.nightly.run import run_job

    return run_job(job_file, job).exit_code


@command.command(epilog=_CHECK_EPILOG, context_settings=_SETTINGS)
@_job_file
@_log_format
def check(job_file: Path, log_format: str) -> int:
    """Say what a run of JOB.toml would do, and everything that is wrong with it; write no table.

    A model that is not built yet is built, so that the night does not have to.
    """
    from jobs.cli.logging_setup import log_to_stderr

    log_to_stderr("label-job", log_format=log_format)
    job = _loaded(job_file)
    if job is None:
        return 2
    from jobs.nightly.check import check_job
    from pipeline.sources.file_names import printable

    logger = logging.getLogger(__name__)
    has_problem = False
    for finding in check_job(job):
        has_problem |= finding.is_problem
        if finding.is_problem:
            logger.error("%s", finding.sentence)
        else:
            click.echo(printable(finding.sentence))
    return 2 if has_problem else 0


@command.command(epilog=_INIT_EPILOG, context_settings=_SETTINGS)
@click.argument("job_file", metavar="[JOB.toml]", required=False, type=click.Path(path_type=Path))
def init(job_file: Path | None) -> int:
    """Write a commented job file to JOB.toml, or to stdout."""
    from importlib import resources

    from pipeline.errors import OutputError, UsageError

    example = (resources.files("jobs") / "units" / "example.toml").read_text(encoding="utf-8")
    if job_file is None:
        click.echo(example, nl=False)
        return 0
    try:
        with job_file.open("x", encoding="utf-8") as stream:
            stream.write(example)
    except FileExistsError:
        raise UsageError(f"{job_file} exists already; name another file") from None
    except OSError as error:
        raise OutputError(f"{job_file} cannot be written: {error.strerror}") from error
    click.echo(f"{job_file} written: edit it, then try label-job check {job_file}", err=True)
    return 0


@command.command(epilog=_INSTALL_EPILOG, context_settings=_SETTINGS)
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
        raise click.UsageError("say --cron or --systemd")
    if _loaded(job_file) is None:
        return 2
    # Where this command lies, since cron and systemd look along no path of ours.
    program = Path(sys.argv[0]).absolute()
    return _cron(program, job_file.absolute(), at) if kind == "cron" else _systemd(program, job_file, at, folder)


def _cron(program: Path, job_file: Path, at: str) -> int:
    from jobs.nightly.schedule import cron_line

    click.echo(cron_line(program, job_file, at))
    click.echo("add this line with: crontab -e", err=True)
    return 0


def _systemd(program: Path, job_file: Path, at: str, folder: Path) -> int:
    from jobs.nightly.schedule import verified, write_units
    from pipeline.sources.file_names import printable

    units = write_units(program, job_file.absolute(), at, folder)
    complaint = verified(units)
    if complaint:
        logging.getLogger(__name__).error("systemd-analyze verify: %s", complaint)
        return 1
    names = " ".join(printable(str(unit)) for unit in units)
    told = "checked with systemd-analyze verify" if complaint == "" else "systemd-analyze is not here to check them"
    click.echo(f"{names} written, {told}; put them in place with:", err=True)
    click.echo(f"  sudo cp {names} /etc/systemd/system/", err=True)
    click.echo(f"  sudo systemctl daemon-reload && sudo systemctl enable --now {units[1].name}", err=True)
    return 0


def _loaded(job_file: Path) -> Job | None:
    """Return the job, or None after saying every mistake in its file."""
    from jobs.nightly.job_file import load_job

    job = load_job(job_file)
    if not isinstance(job, tuple):
        return job
    logger = logging.getLogger(__name__)
    for mistake in job:
        logger.error("%s: %s", job_file, mistake)
    return None


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-job")


if __name__ == "__main__":
    main()
