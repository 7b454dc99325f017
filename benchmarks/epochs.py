"""Whole epochs through the product's own code: a draw of a search, and an epoch of a training.

A draw is one epoch on the training half of the images and the accuracy on the other half, with its
calibration. A training epoch is on all images, the Child with both terms of (4.17); writing its
checkpoint is not in it. Both of the same architecture, all four in turn. Images per second count every
image once: forward and backward where it trains, forward where it validates.
"""

import contextlib
import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import search_of
from benchmarks.workload import SHAPES, Workload
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.efficiency.timing import interleaved, paired_ratio, seconds_of
from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import Config
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.training.training import Training

TITLE = "epochs of a search and of a training"
WORKLOAD = Workload(SHAPES[0], num_images=256)
GENOTYPE = draw_uniform(seed=0)


def search_draws(workload: Workload, genotype: Genotype) -> dict[NetworkName, Callable[[], float]]:
    """Of Child and Parent: a call trains and validates the genotype once more, and returns the seconds."""
    shared = SharedNetworks(search_of(workload))

    def make(name: NetworkName) -> Callable[[], float]:
        draws = itertools.count()
        return lambda: seconds_of(lambda: shared.train_and_validate(name, genotype, draw=next(draws)))

    return {name: make(name) for name in PRECISIONS}


def training_epochs(workload: Workload, genotype: Genotype, *, folder: Path) -> dict[NetworkName, Callable[[], float]]:
    """Of Child and Parent: a call trains one epoch more, and returns the seconds that the run's history names."""
    config, dataset = workload.config(), workload.dataset()
    return {
        name: functools.partial(train_one_epoch, config, dataset, genotype, name, folder / name) for name in PRECISIONS
    }


def train_one_epoch(
    config: Config, dataset: Dataset, genotype: Genotype, name: NetworkName, folder: Path, *, device: str = "cpu"
) -> float:
    """Go on with the training in the folder for one epoch; its seconds.

    A training whose time is up at once stops, saved, after one epoch; the next one resumes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seconds: list[float] = []

    def notify(record: Mapping[str, Any]) -> None:
        if record["event"] == "epoch" and not record.get("resumed"):
            seconds.append(record["seconds"])

    training = Training(
        RunFolder(folder),
        config,
        genotype,
        dataset,
        fabric=open_device(device, dtype=config.train.dtype),
        networks=(name,),
        provenance={},
        deadline=Deadline(max_seconds=0.0),
        notify=notify,
    )
    with contextlib.suppress(MaxTimeReached):
        training.train()
    return seconds[0]


def tabulate(workload: Workload = WORKLOAD, *, repetitions: int, warmup: int = 1) -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        measurements = {
            "draw of a search": search_draws(workload, GENOTYPE),
            "training with (4.17)": training_epochs(workload, GENOTYPE, folder=Path(folder)),
        }
        seconds = interleaved(
            {f"{epoch} {name}": call for epoch, calls in measurements.items() for name, call in calls.items()},
            repetitions=repetitions,
            warmups=warmup,
        )
    rows = []
    for epoch in measurements:
        for name in PRECISIONS:
            median = statistics.median(seconds[f"{epoch} {name}"])
            rows.append(
                {
                    "epoch": epoch,
                    "network": name,
                    **workload.shape.column(),
                    "images": workload.num_images,
                    "seconds": median,
                    "images per second": workload.num_images / median,
                    "to the Parent": paired_ratio(seconds[f"{epoch} {name}"], seconds[f"{epoch} parent"]).median,
                }
            )
    return rows


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=3)
