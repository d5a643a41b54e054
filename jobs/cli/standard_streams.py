"""stdout and stderr of a command: closed, full or broken ones included, and the one way to print on them.

What goes to stdout was asked for, so a stdout that cannot take it is an error. What goes to stderr is news, and a
stderr that cannot take it is no reason to fail.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

import click

from models.system.outside_text import terminal_text
from pipeline.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def prepare_standard_streams() -> None:
    """Make stdin, stdout and stderr usable for the rest of this process, whatever its parent left of them."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        _open_if_closed(descriptor)
    sys.stdout = _text_stream(_StandardOutput(_STDOUT, "wb", closefd=False), sys.stdout)
    sys.stderr = _text_stream(_StandardError(_STDERR, "wb", closefd=False), sys.stderr)


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print lines on stdout, or stderr, with everything in them escaped that steers a terminal.

    Raises:
        OutputError: stdout cannot be written.
        BrokenPipeError: nobody reads stdout any more.
    """
    click.echo("\n".join(map(terminal_text, text.split("\n"))), err=to_stderr)


def _open_if_closed(descriptor: int) -> None:
    """Open /dev/null in place of a closed stream, which would else be the number of the next file that is opened.

    Writing to a closed stdout still fails, since /dev/null is open only for reading there.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        # The lowest free number, so `descriptor` itself.
        os.open(os.devnull, os.O_WRONLY if descriptor == _STDERR else os.O_RDONLY)
        os.set_inheritable(descriptor, True)


class _StandardOutput(io.FileIO):
    def write(self, content: ReadableBuffer) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"stdout cannot be written: {error.strerror}") from error


class _StandardError(io.FileIO):
    def write(self, content: ReadableBuffer) -> int:
        try:
            return super().write(content)
        except OSError:
            return memoryview(content).nbytes


def _text_stream(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    encoding, errors = getattr(before, "encoding", None) or "utf-8", getattr(before, "errors", None)
    # A name of a file may hold bytes that are no text in any encoding.
    errors = "backslashreplace" if errors in (None, "strict") else errors
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
