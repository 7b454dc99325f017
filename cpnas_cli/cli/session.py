"""What `search` and `train` do before they start: device, images, folder, deadline."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpnas_cli.cli import options
from cpnas_cli.cli.outcome import say

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.clock import Deadline
    from cpnas_cli.config import Config
    from cpnas_cli.data import Dataset
    from cpnas_cli.records import RunFolder


@dataclass(frozen=True)
class Session:
    """A run that is about to start or to go on."""

    config: "Config"
    run: "RunFolder"
    dataset: "Dataset"
    fabric: "Fabric"
    deadline: "Deadline"


def open_session(
    config: "Config",
    *,
    out: Path | None,
    name: str,
    device: str,
    resume: bool,
    max_time: str | None,
    documents: Mapping[str, Mapping[str, Any]] | None = None,
) -> Session:
    """Open the device, load the images, then make the folder; whatever fails, fails before anything is written.

    Args:
      config: the resolved settings.
      out: the run's folder; without it runs/NAME, or runs/NAME-2 and so on.
      name: see `out`.
      device: see `device.open_device`.
      resume: whether the folder may hold this run already.
      max_time: a duration, see `clock.parse_duration`.
      documents: further files of the run, {file name: JSON object}; a resumed run must hold the same.
    """
    from cpnas_cli.clock import Deadline, parse_duration

    deadline = Deadline(None if max_time is None else parse_duration(max_time))

    from cpnas_cli.data import check_split, describe_dataset, load_dataset
    from cpnas_cli.device import describe_environment, open_device
    from cpnas_cli.records import RunFolder, open_run, read_document

    fabric = open_device(device)
    dataset = load_dataset(config.data)
    if RunFolder.TRAINING not in (documents or {}) and config.search.strategy != "random":
        check_split(len(dataset.train), config.search.validation_fraction)
    owned = {**(documents or {}), RunFolder.DATASET: describe_dataset(dataset)}
    texts = {file: json.dumps(document, indent=2) + "\n" for file, document in owned.items()}
    environment = describe_environment(fabric)
    run = open_run(out or options.new_folder(name), config, resume=resume, environment=environment, owned=texts)
    started = read_document(run.file(RunFolder.ENVIRONMENT))
    for key in ("device_name", "num_threads", "libraries"):
        if started.get(key) != environment[key]:
            say(f"note: {key} differs from the start of the run, so the bits will too ({started.get(key)})")
    return Session(config, run, dataset, fabric, deadline)
