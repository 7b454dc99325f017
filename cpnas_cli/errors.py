"""The errors that a user can cause or meet, each with its exit code.

Anything that is not a `CpnasError` is a defect of the program and is shown as a traceback.
A message is one line and says what was expected, what came, and what to type next.
"""

import os
import shlex

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_MAX_TIME = 75  # EX_TEMPFAIL: trying again goes on
EXIT_INTERRUPTED = 130  # 128 + SIGINT


class CpnasError(Exception):
    """Base of every expected error; the command line prints its one line and exits with `exit_code`."""

    exit_code = EXIT_ERROR


class UsageError(CpnasError):
    """What was typed (a preset, a key, a value, a combination of options) is wrong."""

    exit_code = EXIT_USAGE


class DataError(CpnasError):
    """A data set is missing, empty, unreadable or inconsistent."""


class GenotypeError(CpnasError):
    """A genotype document is unreadable, of another schema, or not a connected cell pair."""


class RunError(CpnasError):
    """A run folder holds another run, another configuration, or cannot be written."""


class CheckpointError(CpnasError):
    """A checkpoint is truncated, of another version, or of another run."""


class DeviceError(CpnasError):
    """The device asked for is not there."""


class NonFiniteLossError(CpnasError):
    """A loss became NaN or infinite; the last good checkpoint is kept."""


class ProcessLostError(CpnasError):
    """Another process of the same training is gone, so this one cannot go on."""


class OutputError(CpnasError):
    """Standard output cannot be written to."""


class MaxTimeReached(CpnasError):
    """The time given with ``--max-time`` is used up; everything done so far is saved."""

    exit_code = EXIT_MAX_TIME


def shell_word(path: str | os.PathLike[str]) -> str:
    """The path as it is typed in a shell: for the commands that a message names."""
    return shlex.quote(os.fspath(path))
