"""Where exceptions become one sentence and an exit code, for every door."""

from __future__ import annotations

import atexit
import logging
import os
import select
import sys
from collections.abc import Callable

import click

from jobs.cli.logging_setup import log_to_stderr
from pipeline.errors import ExitCode, Interrupted, LabelDirError

logger = logging.getLogger(__name__)


def end_with_exit_code(command: click.Command, name: str) -> None:
    """Run `command` on the arguments of this process and end the process with the exit code it deserves."""
    log_to_stderr(name)
    code = _exit_code(lambda: command.main(prog_name=name, standalone_mode=False), name)
    # What a usual end does, but for taking apart every loaded library, which with torch takes half a second.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(body: Callable[[], object], name: str) -> int:
    try:
        result = body()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except LabelDirError as error:
        logger.error("%s", error)
        return int(error.exit_code)
    except Interrupted as error:
        logger.error("interrupted; what was done is kept, and the same command goes on from there")
        return 128 + error.signal_number
    except (KeyboardInterrupt, click.Abort) as error:
        # click takes the end of any pipe for the end of a dialogue.
        return _bug() if isinstance(error.__cause__, EOFError) else ExitCode.INTERRUPTED
    except BrokenPipeError:
        if not _reader_left():
            return _bug()
        # What is left of our output must not fail again when Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return ExitCode.OK
    except Exception:
        return _bug()
    return result if isinstance(result, int) else ExitCode.OK


def _bug() -> int:
    logger.exception("this is a bug, please report it with what follows")
    return ExitCode.BUG


def _reader_left() -> bool:
    """Tell whether it was our own output that nobody reads any more; other pipes are our own affair."""
    output = select.poll()
    for descriptor in (1, 2):
        output.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in output.poll(0))
