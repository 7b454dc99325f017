"""What a search and a training do before they start: images, device, folder, deadline."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset, describe_dataset, load_dataset
from cpnas_cli.distributed.collectives import by_all, by_first
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import describe_environment, differences
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.runs.threads import threads_of_run
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import VALIDATION_KEYS, read_document

Check = Callable[[Config, Dataset, Fabric], object]
"""Raises a `CpnasError` for what could not be done with these settings and images on this device."""


@dataclass(frozen=True)
class OpenedRun:
    """A run that is about to start or to go on.

    Attributes:
      notes: what its user should know: an environment that differs from the one it was started in.
    """

    config: Config
    run: RunFolder
    dataset: Dataset
    fabric: Fabric
    deadline: Deadline
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def open_run_for(
    config: Config,
    *,
    folder: Path,
    fabric: Fabric,
    resume: bool,
    deadline: Deadline,
    check: Check,
    dataset: Dataset | None = None,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    command: Sequence[str] | None = None,
    wait_seconds: float = 0,
) -> Iterator[OpenedRun]:
    """Load the images, then make the folder; whatever fails, fails before anything is written.

    Nobody else has the folder until the block ends, and on a CPU PyTorch computes on the threads of `threads_of_run`.
    Of several processes each loads the images, and the first one makes and locks the folder. A run that has begun
    without images that validate, when there were none or in an older version, goes on without.

    Args:
      config: the resolved settings.
      folder: of the run; of several processes that of the first one counts.
      resume: whether the folder may hold this run already.
      check: of a search `check_search`, of a training `check_training`.
      dataset: the images of the settings, where they are loaded already.
      documents: further files of the run, {file name: JSON object}; a resumed run must hold the same.
      command: what was typed; without it that of this process.
      wait_seconds: for whoever has the folder.

    Raises:
      DataError, UsageError: see `check` and `load_dataset`.
      RunError: see `open_run`.
    """

    def load() -> Dataset:
        images = dataset or load_dataset(config.data)
        check(config, images, fabric)
        return images

    images = by_all(fabric, load)
    owned = {**(documents or {}), RunFolder.DATASET: describe_dataset(images)}
    with contextlib.ExitStack() as held:
        held.enter_context(threads_of_run(config, folder, device_type=fabric.device.type))
        environment = describe_environment(fabric, command=command)

        def start() -> tuple[RunFolder, tuple[str, ...], bool]:
            opened = open_run(
                folder, config, resume=resume, environment=environment, owned=owned, wait_seconds=wait_seconds
            )
            run = held.enter_context(opened)
            has_validation = read_document(run.file(RunFolder.DATASET)).keys() >= set(VALIDATION_KEYS)
            return run, differences(read_document(run.file(RunFolder.ENVIRONMENT)), environment), has_validation

        run, notes, has_validation = by_first(fabric, start)
        if images.validation is not None and not has_validation:
            images = replace(images, validation=None)
            notes = (*notes, "this run has begun without images that validate, and goes on without")
        yield OpenedRun(config, run, images, fabric, deadline, notes)
