"""A tiny search, its training and its packed model, on which faults are injected; and commands in forked processes.

A fork has torch loaded already: a command that is killed costs a second, not ten.
"""

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpnas_cli.cli.app import app

SETTINGS = (
    "data.num_train=40",
    "data.num_test=20",
    "network.num_cells=3",
    "network.num_channels=4",
    "search.num_channels=null",
    "network.stem_multiplier=1",
    "search.num_passes=1",
    "search.batch_size=20",
    "search.num_calibration_batches=1",
    "train.num_epochs=2",
    "train.batch_size=20",
)
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]


@dataclass(frozen=True)
class Ended:
    """How a command in a process of its own has ended."""

    code: int
    stderr: str


def command(*words: str) -> int:
    """`cpnas WORDS` in this process; returns its exit code."""
    try:
        app(list(words), standalone_mode=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def start(log: Path, *words: str, prepare: Callable[[], object] = lambda: None) -> int:
    """Begin `cpnas WORDS` in a fork; returns its number. Standard error goes to LOG, standard output to LOG.out."""
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        prepare()
        with (
            log.open("w", encoding="utf-8") as errors,
            Path(f"{log}.out").open("w", encoding="utf-8") as output,
            contextlib.redirect_stdout(output),
        ):
            sys.stderr = errors
            logging.getLogger().handlers.clear()  # pytest's, which take what a command alone says on standard error
            code = command(*words)
            errors.flush()
    finally:
        os._exit(code)


def end(number: int, log: Path, *, after: float | None = None) -> Ended:
    """Wait for it, or kill it after so many seconds (then the code is -9, unless it was faster)."""
    if after is not None:
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return Ended(os.waitstatus_to_exitcode(status), log.read_text(encoding="utf-8") if log.exists() else "")


def run(log: Path, *words: str, prepare: Callable[[], object] = lambda: None) -> Ended:
    return end(start(log, *words, prepare=prepare), log)


def make(folder: Path, *, export: bool = True) -> None:
    """`search/` and `training/`, with its `model.packed.safetensors` if that is asked for."""
    for words in commands(folder / "search", folder / "training"):
        ended = run(folder / "log", *words)
        assert ended.code == 0, ended.stderr
    if export:
        ended = run(folder / "log", "export", str(folder / "training"))
        assert ended.code == 0, ended.stderr


def commands(search: Path, training: Path) -> Sequence[list[str]]:
    return (
        ["search", "--strategy", "random", *OPTIONS, "--out", str(search)],
        ["train", str(search / "genotype.json"), *OPTIONS, "--out", str(training)],
    )
