"""Where exceptions become one sentence and an exit code, for every door."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable

import click

from models.errors import ModelError
from pipeline.errors import ExitCode, LabelDirError
from pipeline.names import printable
from pipeline.run import Interrupted


def end_with_exit_code(command: click.Command, name: str) -> None:
    """Run `command` on the arguments of this process and end the process with the exit code it deserves."""
    code = _exit_code(lambda: command.main(prog_name=name, standalone_mode=False), name)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _exit_code(body: Callable[[], object], name: str) -> int:
    try:
        result = body()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (LabelDirError, ModelError) as error:
        click.echo(f"{name}: {printable(str(error))}", err=True)
        return int(error.exit_code)
    except Interrupted as error:
        return 128 + error.signal_number
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away; what is left must not fail again when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    except Exception:
        click.echo(f"{name}: this is a bug, please report it with what follows\n{traceback.format_exc()}", err=True)
        return ExitCode.BUG
    return result if isinstance(result, int) else ExitCode.OK


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def log_to_stderr(name: str, quiet: bool) -> None:
    """Send warnings and worse (with `quiet`, errors) of all rooms to stderr, one line each, safe for a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable(f"{name}: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR if quiet else logging.WARNING)
