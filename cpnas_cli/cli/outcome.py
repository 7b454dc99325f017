"""What a command prints and how it ends: the record on standard output, everything else on standard error."""

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from cpnas_cli.errors import EXIT_INTERRUPTED, CpnasError, MaxTimeReached


def say(text: str) -> None:
    """A message for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
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


COMPILING = "compiling the kernels for this processor: once, some 20 seconds"


@contextlib.contextmanager
def reported_errors(*, resume_line: str | None = None) -> Iterator[None]:
    """An expected error becomes one line and its exit code; anything else stays a traceback.

    Args:
      resume_line: the command that goes on with the run, shown when it is stopped.
    """
    try:
        yield
    except CpnasError as error:
        line = " ".join(str(error).split())
        if isinstance(error, MaxTimeReached):
            say(f"cpnas: {line}; go on with: {resume_line}" if resume_line else f"cpnas: {line}")
        else:
            say(f"cpnas: error: {line}")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        if resume_line:
            say(f"cpnas: interrupted; all finished draws or epochs are saved; go on with: {resume_line}")
        else:
            say("cpnas: interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:
        raise typer.Exit(1) from None
