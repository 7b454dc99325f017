"""What a search and a training do before they start: images, device, folder, deadline."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from cpnas_cli.clock import Deadline
from cpnas_cli.config import Config
from cpnas_cli.data import Dataset, check_split, describe_dataset, load_dataset
from cpnas_cli.device import describe_environment
from cpnas_cli.mixed import check_partial_channels
from cpnas_cli.records import RunFolder, open_run, read_document


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


def check_searchable(config: Config, dataset: Dataset) -> None:
    """Refuse what the strategy of the settings could not search.

    Raises:
      DataError: too few images to split. UsageError: channels that do not divide.
    """
    if config.search.strategy != "random":
        check_split(len(dataset.train), config.search.validation_fraction)
    if config.search.strategy == "pcdarts":
        check_partial_channels(config.search_network(), config.pcdarts.partial_channels)


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

    Args:
      config: the resolved settings.
      folder: of the run.
      resume: whether the folder may hold this run already.
      dataset: the images of the settings, where they are loaded already.
      documents: further files of the run, {file name: JSON object}; a resumed run must hold the same.
      command: what was typed; without it that of this process.

    Raises:
      DataError, UsageError: see `check_searchable` and `load_dataset`. RunError: see `open_run`.
    """
    dataset = dataset or load_dataset(config.data)
    if RunFolder.TRAINING not in (documents or {}):
        check_searchable(config, dataset)
    owned = {**(documents or {}), RunFolder.DATASET: describe_dataset(dataset)}
    texts = {file: json.dumps(document, indent=2) + "\n" for file, document in owned.items()}
    environment = describe_environment(fabric, command=command)
    run = open_run(folder, config, resume=resume, environment=environment, owned=texts)
    started = read_document(run.file(RunFolder.ENVIRONMENT))
    notes = [
        f"{key} differs from the start of the run, so the bits will too ({started.get(key)})"
        for key in ("device_name", "num_threads", "libraries")
        if started.get(key) != environment[key]
    ]
    return Session(config, run, dataset, fabric, deadline, tuple(notes))
