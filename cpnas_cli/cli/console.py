"""What a command prints and how it ends: the record on standard output, everything else on standard error."""

import contextlib
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from cpnas_cli.distributed.launch import EXIT_LOST
from cpnas_cli.distributed.processes import this_world
from cpnas_cli.errors import EXIT_ERROR, EXIT_INTERRUPTED, CpnasError, MaxTimeReached, ProcessLostError

# What would break a line or a column, command the terminal, turn the text around, or cannot be written at all
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A name that somebody else chose (a file, a class), in one line that does nothing but show."""
    return spelled_out(UNPRINTABLE, text)


def spelled_out(pattern: re.Pattern[str], text: str) -> str:
    """The text, with the characters of the pattern as `\\x1b` and the like."""
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """A message for people, on standard error; of several processes the first one speaks."""
    if this_world().is_first:
        _say(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """The record of a command; of several processes the first one prints."""
    if this_world().is_first:
        print(json.dumps(document, indent=2, allow_nan=False), flush=True)


@contextlib.contextmanager
def said_if_slow(text: str, *, seconds: float = 1.5) -> Iterator[None]:
    """Says why nothing seems to happen, if it takes longer than this."""
    timer = threading.Timer(seconds, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def saved_line(resume_line: str | None) -> str:
    """The end of a message about a run that was stopped."""
    return f"; all finished draws or epochs are saved; go on with: {resume_line}" if resume_line else ""


def have_met() -> bool:
    """Whether the processes of one command have found each other, so that an error of one is known to all."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


COMPILING = "compiling the kernels for this processor: once, some 20 seconds"


_NOT_IN_RUNTIME = {"torch", "torchvision", "lightning_fabric", "sklearn", "matplotlib", "jinja2", "scipy", "filelock"}
"""Libraries that cpnas needs and cpnas-runtime, which only predicts, is installed without."""


@contextlib.contextmanager
def reported_errors(*, resume_line: str | None = None) -> Iterator[None]:
    """An expected error becomes one line and its exit code; anything else stays a traceback.

    Where this program has started the processes itself, the one that waits for them says what happened to them.

    Args:
      resume_line: the command that goes on with the run, shown when it is stopped.
    """
    is_waited_for = this_world().launcher == "cpnas"
    try:
        yield
    except ProcessLostError as error:
        if is_waited_for:
            raise typer.Exit(EXIT_LOST) from None
        _say(f"cpnas: error: {error}{saved_line(resume_line)}")
        raise typer.Exit(error.exit_code) from None
    except CpnasError as error:
        line = " ".join(str(error).split())
        if isinstance(error, MaxTimeReached):
            say(f"cpnas: {line}; go on with: {resume_line}" if resume_line else f"cpnas: {line}")
        elif is_waited_for or have_met():
            say(f"cpnas: error: {line}")
        else:  # torchrun's or srun's, before they have found each other: nobody else knows
            _say(f"cpnas: error: {line}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        if not is_waited_for:
            say(f"cpnas: interrupted{saved_line(resume_line)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit(1) from None
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _NOT_IN_RUNTIME:
            raise
        say(f"cpnas: error: this command needs {library}, which cpnas-runtime leaves out; type: pip install cpnas")
        raise typer.Exit(EXIT_ERROR) from None
