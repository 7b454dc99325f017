"""What a command prints and how it ends: the record on standard output, everything else on standard error."""

import contextlib
import io
import json
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

from cpnas_cli.distributed.launch import EXIT_LOST
from cpnas_cli.distributed.processes import this_world
from cpnas_cli.errors import (
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    CpnasError,
    MaxTimeReached,
    OutputError,
    ProcessLostError,
)

# What would break a line or a column, command the terminal, turn the text around, or cannot be written at all
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_UNPRINTABLE_IN_LINES = re.compile(UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    """A name that somebody else chose (a file, a class), in one line that does nothing but show."""
    return spelled_out(UNPRINTABLE, text)


def printable_lines(text: str) -> str:
    """The same of a text that may have lines and tabs of its own."""
    return spelled_out(_UNPRINTABLE_IN_LINES, text)


def spelled_out(pattern: re.Pattern[str], text: str) -> str:
    """The text, with the characters of the pattern as `\\x1b` and the like."""
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class _Results(io.TextIOWrapper):
    """Standard output: what cannot be written there is an error of ours, not a traceback after the work is done."""

    @property
    def rich_proxied_file(self) -> "_Styled":
        """Where Rich writes, whose commands to the terminal are meant."""
        return _Styled(self, self._write)

    def write(self, text: str, /) -> int:
        return self._write(printable_lines(text) if self.isatty() else text)

    def _write(self, text: str) -> int:
        with _told_apart():
            return super().write(text)

    def flush(self) -> None:
        with _told_apart():
            super().flush()


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever read it wants no more
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write to standard output: {error.strerror or error}; files that the command writes are complete"
        ) from None


class _Messages(io.TextIOWrapper):
    """Standard error: a message that cannot be written there, to a log on a full disk, does not end the work."""

    @property
    def rich_proxied_file(self) -> "_Styled":
        """See `_Results`."""
        return _Styled(self, self._write)

    def write(self, text: str, /) -> int:
        return self._write(printable_lines(text))

    def _write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


class _Styled:
    """A stream to which a text is written as it is; all else is that of the stream."""

    def __init__(self, stream: io.TextIOWrapper, write: Callable[[str], int]) -> None:
        self._stream, self.write = stream, write

    @property
    def rich_proxied_file(self) -> "_Styled":
        """Itself: what asks further is at its end."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_streams() -> None:
    """Standard output and error as this program uses them: any encoding, a full disk, closed ones.

    A character that the encoding lacks is written as `\\xe9`. The place of a closed stream is taken, by something that
    cannot be written to: else the next file that is opened would be in its place.
    """
    while (number := os.open(os.devnull, os.O_RDONLY)) <= 2:  # the lowest that is free
        pass
    os.close(number)
    sys.stdout = _opened(sys.stdout, 1, _Results)
    sys.stderr = _opened(sys.stderr, 2, _Messages)


def _opened(stream: Any, number: int, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    if stream is None:
        return kind(open(number, "wb", closefd=False), encoding="utf-8", errors="backslashreplace")
    settings = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    return kind(stream.detach(), encoding=stream.encoding, errors="backslashreplace", **settings)


_MOST_WARNINGS = 20


def name_files_in_warnings() -> None:
    """Warnings of Pillow name the image that they are about, each once; all others stay as they are.

    To be called once in a process: it takes the place of `warnings.showwarning`.
    """
    others, said, one_at_a_time = warnings.showwarning, set[str](), threading.Lock()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        reading = sys.modules.get("cpnas_cli.data.reading")  # which takes long to load
        path = reading.being_read() if reading is not None else None
        if path is None:
            others(message, category, *where, **more)
            return
        text = f"note: {printable(str(path))}: {' '.join(str(message).split())}"
        with one_at_a_time:  # images are read by several threads
            if text in said or len(said) > _MOST_WARNINGS:
                return
            said.add(text)
            say(text if len(said) <= _MOST_WARNINGS else "note: there are more such images, which are not named")

    warnings.showwarning = show
    if not sys.warnoptions:  # -W and PYTHONWARNINGS, which the user has chosen
        warnings.filterwarnings("always", module=r"PIL\.")  # of every image, not of the first one


def close_output(code: int | str | None) -> int | str | None:
    """Write what is left for standard output; returns the exit code of a command that would end with this one."""
    try:
        sys.stdout.flush()
    except (OutputError, BrokenPipeError) as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that Python, which tries once more at its end, succeeds
        if isinstance(error, OutputError) and not code:  # else it has been said
            _say(f"cpnas: error: {error}")
        return code or EXIT_ERROR
    return code


def say(text: str) -> None:
    """A message for people, on standard error; of several processes the first one speaks."""
    if this_world().is_first:
        _say(text)


def _say(text: str) -> None:
    print(printable_lines(text), file=sys.stderr, flush=True)


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
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(EXIT_ERROR) from None
        if error.filename is None:  # no file of the user's: a defect
            raise
        name = printable(str(error.filename))
        _say(f"cpnas: error: cannot use {name}: {error.strerror}; check its name and its permissions")
        raise typer.Exit(EXIT_ERROR) from None
    except KeyboardInterrupt:
        if not is_waited_for:
            say(f"cpnas: interrupted{saved_line(resume_line)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _NOT_IN_RUNTIME:
            raise
        needed = f"this command needs {library}, which cpnas-runtime leaves out"
        say(f"cpnas: error: {needed}; in a copy of the source type: pip install .")
        raise typer.Exit(EXIT_ERROR) from None
