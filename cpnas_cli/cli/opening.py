"""How `search` and `train` open a run from their options."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpnas_cli.cli.console import say

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.runs.opening import Check, OpenedRun
    from cpnas_cli.settings import Config, DtypeName


def say_preparations(config: "Config", dataset: "Dataset") -> None:
    """Say what the budgets of a search need first that takes a while."""
    from cpnas_cli.strategies.budgets.resource import preparations

    for text in preparations(config, dataset):
        say(text)


def say_notes(dataset: "Dataset") -> None:
    """Say what a user should know of the images."""
    for note in dataset.notes:
        say(f"note: {note}")


KILLED_TRAINING_SECONDS = 2.0
"""For the processes of a training that was killed, which end just after it, to let its folder go."""


@contextlib.contextmanager
def open_from_options(
    config: "Config",
    *,
    folder: Path,
    device: str,
    dtype: "DtypeName",
    resume: bool,
    max_time: str | None,
    check: "Check",
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    num_processes: int = 1,
) -> Iterator["OpenedRun"]:
    """The run in this folder, which this command alone has until the block ends.

    Args:
      check: see `open_run_for`.
      num_processes: those that run this together; see `open_device`.
    """
    from cpnas_cli.runs.deadline import Deadline, parse_duration

    deadline = Deadline(None if max_time is None else parse_duration(max_time))

    from cpnas_cli.distributed.device import open_device
    from cpnas_cli.runs.opening import open_run_for

    with open_run_for(
        config,
        folder=folder,
        fabric=open_device(device, dtype=dtype, num_processes=num_processes),
        resume=resume,
        deadline=deadline,
        check=check,
        documents=documents,
        wait_seconds=KILLED_TRAINING_SECONDS,
    ) as opened:
        say_notes(opened.dataset)
        for note in opened.notes:
            say(f"note: {note}")
        yield opened
