"""What a search and a training do before they start: images, device, folder, deadline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from cpnas_cli.data.datasets import Dataset, describe_dataset, load_dataset
from cpnas_cli.distributed.collectives import by_all, by_first
from cpnas_cli.distributed.processes import check_shares
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import describe_environment
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import read_document
from cpnas_cli.strategies.checks import check_search


@dataclass(frozen=True)
class Session:
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


def _load_images(config: Config, fabric: Fabric, *, is_training: bool, dataset: Dataset | None) -> Dataset:
    """The images, with which the run can be done."""
    dataset = dataset or load_dataset(config.data)
    if is_training:
        check_shares(
            batch_size=config.train.batch_size,
            num_parts=config.train.gradient_accumulation_steps,
            num_processes=fabric.world_size,
            num_images=len(dataset.train),
        )
    else:
        check_search(config, dataset, fabric)
    return dataset


def open_session(
    config: Config,
    *,
    folder: Path,
    fabric: Fabric,
    resume: bool,
    deadline: Deadline,
    dataset: Dataset | None = None,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
    command: Sequence[str] | None = None,
) -> Session:
    """Load the images, then make the folder; whatever fails, fails before anything is written.

    Of several processes each loads the images, and the first one makes the folder.

    Args:
      config: the resolved settings.
      folder: of the run.
      resume: whether the folder may hold this run already.
      dataset: the images of the settings, where they are loaded already.
      documents: further files of the run, {file name: JSON object}; a resumed run must hold the same.
      command: what was typed; without it that of this process.

    Raises:
      DataError, UsageError: see `check_search`, `check_shares` and `load_dataset`.
      RunError: see `open_run`.
    """
    is_training = RunFolder.TRAINING in (documents or {})
    dataset = by_all(fabric, lambda: _load_images(config, fabric, is_training=is_training, dataset=dataset))
    owned = {**(documents or {}), RunFolder.DATASET: describe_dataset(dataset)}
    texts = {file: json.dumps(document, indent=2) + "\n" for file, document in owned.items()}
    environment = describe_environment(fabric, command=command)

    def start() -> tuple[RunFolder, tuple[str, ...]]:
        run = open_run(folder, config, resume=resume, environment=environment, owned=texts)
        started = {"num_processes": 1, **read_document(run.file(RunFolder.ENVIRONMENT))}
        notes = (
            f"{key} differs from the start of the run, so the bits will too ({started.get(key)})"
            for key in ("device_name", "num_threads", "num_processes", "libraries")
            if started.get(key) != environment[key]
        )
        return run, tuple(notes)

    run, notes = by_first(fabric, start)
    return Session(config, run, dataset, fabric, deadline, notes)
