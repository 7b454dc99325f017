"""Trainings that are judged on held-out training images, so that what is chosen by them never saw the test set."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.randomness import torch_generator
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, change_config, load_config
from cpnas_cli.training.training import Training

TRAINING_SECTIONS = ("data", "network", "train")
"""What a training reads of the settings."""


def held_out(config: Config, num_held_out: int) -> Dataset:
    """As many training images as the settings say, and others of the training set in place of the test images."""
    if config.data.num_train is None:
        raise SystemExit("all training images train; expected a preset with data.num_train, so that some are left")
    num_train = config.data.num_train
    larger = config.data.model_copy(update={"num_train": num_train + num_held_out})
    loaded = load_dataset(larger)
    if len(loaded.train) != num_train + num_held_out:
        raise SystemExit(f"{len(loaded.train)} training images are not {num_train} and {num_held_out} to hold out")
    order = torch.randperm(len(loaded.train), generator=torch_generator(0, "held-out images"))
    parts = loaded.train.subset(order[:num_train]), loaded.train.subset(order[num_train:])
    return Dataset(*parts, loaded.classes, loaded.mean, loaded.std)


@dataclass(frozen=True)
class Trained:
    """One training: the result document, and the records of its epochs."""

    result: Mapping[str, Any]
    epochs: Sequence[Mapping[str, Any]]

    def accuracies(self) -> dict[str, Any]:
        """On the held-out images, as fractions; beside it what the network takes."""
        return {
            "accuracy": self.result["accuracy_test"],
            "accuracy_parent": self.result["accuracy_parent_test"],
            "size_bits": self.result["size_bits"],
            "seconds": self.result["seconds"],
        }


def train(
    config: Config, dataset: Dataset, genotype: Genotype, *, networks: tuple[NetworkName, ...] = ("child",)
) -> Trained:
    """Train these networks, the Parent first where the settings want its soft targets; keeps nothing on the disk."""
    with tempfile.TemporaryDirectory(prefix="cpnas-held-out-") as name:
        run = RunFolder(Path(name))
        training = Training(
            run,
            config,
            genotype,
            dataset,
            fabric=open_device("cpu"),
            networks=networks,
            provenance={},
            deadline=Deadline(),
        )
        result = training.train()
        return Trained(result, [record for record in run.history() if record["event"] == "epoch"])


def settings_of_table(table: Mapping[str, Any], overrides: Sequence[str]) -> Config:
    """The settings of a search on a table's images, or of a training like the table's.

    What a training reads is what the table was made with, whatever its preset has become since; all else is the
    preset's as it is now.
    """
    config = load_config(table["preset"], overrides=[*table["settings"], *overrides])
    return change_config(config, _made_with(table))


def trains_alike(config: Config, table: Mapping[str, Any]) -> bool:
    """Whether trainings by these settings belong into the table; what it does not know is at its default."""
    return _trained_with(config.model_dump(mode="json")) == _made_with(table)


def _made_with(table: Mapping[str, Any]) -> dict[str, Any]:
    return {**_trained_with(Config().model_dump(mode="json")), **_trained_with(table["config"])}


def _trained_with(config: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section in TRAINING_SECTIONS for key, value in config[section].items()}
