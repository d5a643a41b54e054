"""Exceptions -> one sentence on stderr and an exit code, for every command."""

from __future__ import annotations

import atexit
import io
import logging
import os
import select
import sys
from collections.abc import Callable

import click

from jobs.cli.logging_setup import log_to_stderr
from jobs.cli.standard_streams import prepare_standard_streams, print_text
from pipeline.errors import ExitCode, Interrupted, LabelDirError

logger = logging.getLogger(__name__)


def end_with_exit_code(command: click.Command, name: str) -> None:
    """Run `command` on the arguments of this process and end the process with the command's exit code."""
    prepare_standard_streams()
    log_to_stderr(name)
    code = _exit_code(lambda: command.main(prog_name=name, standalone_mode=False), name)
    # As a normal exit, but without tearing down every loaded library: with torch that takes half a second.
    atexit._run_exitfuncs()
    code = code or _exit_code(sys.stdout.flush, name)
    sys.stderr.flush()
    os._exit(code)


def _exit_code(body: Callable[[], object], name: str) -> int:
    try:
        result = body()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        _show(error)
        return ExitCode.USAGE
    except LabelDirError as error:
        # The notes of a bug say where in a child process it was raised.
        logger.error("%s", error, exc_info=error.exit_code == ExitCode.BUG and hasattr(error, "__notes__"))
        return int(error.exit_code)
    except Interrupted as error:
        logger.error("interrupted; finished work is kept, and the same command continues from there")
        return 128 + error.signal_number
    except (KeyboardInterrupt, click.Abort) as error:
        # click makes an Abort of every EOFError, also of one from a worker's pipe, which is a bug.
        return _bug() if isinstance(error.__cause__, EOFError) else ExitCode.INTERRUPTED
    except BrokenPipeError:
        if not _is_output_unread():
            return _bug()
        # Python flushes stdout at exit, and that must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    except Exception:
        return _bug()
    return result if isinstance(result, int) else ExitCode.OK


def _show(error: click.ClickException) -> None:
    """Print what click says of wrong arguments, which it quotes as they are."""
    text = io.StringIO()
    error.show(text)
    print_text(text.getvalue().rstrip("\n"), to_stderr=True)


def _bug() -> int:
    logger.exception("this is a bug, please report it with what follows")
    return ExitCode.BUG


def _is_output_unread() -> bool:
    """Return whether the reader of stdout or stderr is gone; a broken pipe to a worker is a bug instead."""
    output = select.poll()
    for descriptor in (1, 2):
        output.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))
