"""How many threads compute a run on a CPU."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from cpnas_cli.errors import RunError
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import read_document

CHOSEN_BY_THE_USER = "OMP_NUM_THREADS"

VALUES_FOR_SEVERAL_THREADS = 2**19
"""Values of a node of the first cell, of all images of a step, from which on several threads are worth it.

Below it a step is many operations of some ten microseconds, after each of which the threads wait for each other: two
took 1.5 to 2 times as long as one, and longer still where other programs run (docs/performance.md).
"""


@contextlib.contextmanager
def threads_of_run(config: Config, folder: Path | None = None, *, device_type: str = "cpu") -> Iterator[None]:
    """Let PyTorch compute on as many threads as this run should have, until the block ends.

    They are the user's, where OMP_NUM_THREADS is set; those that the run in the folder was started with, because the
    bits depend on them; one for a small network (`VALUES_FOR_SEVERAL_THREADS`); or all that there are. Never more than
    PyTorch had before: a worker of an experiment has its share. Where the networks are on another device than the CPU,
    nothing changes.
    """
    before = torch.get_num_threads()
    if device_type == "cpu" and CHOSEN_BY_THE_USER not in os.environ:
        torch.set_num_threads(min(_wanted(config, folder) or before, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wanted(config: Config, folder: Path | None) -> int | None:
    """None: all that there are."""
    started = None if folder is None else _started_with(folder)
    if started is not None:
        return started
    side = config.data.image_size // config.network.stem_stride
    values = config.train.batch_size * config.network.num_channels * side * side
    return 1 if values < VALUES_FOR_SEVERAL_THREADS else None


def _started_with(folder: Path) -> int | None:
    """Threads of the run in this folder; None where there is none, or none that can be read: that is said elsewhere."""
    file = RunFolder(folder).file(RunFolder.ENVIRONMENT)
    try:
        number = read_document(file).get("num_threads") if file.exists() else None
    except (OSError, RunError):
        return None
    return number if type(number) is int and number > 0 else None
