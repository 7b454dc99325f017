"""The training of a plain CNN: it learns, resumes to the same bits, and its file is checked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_SETTINGS
from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.errors import CheckpointError, MaxTimeReached
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.modules.plain_cnn import build_plain_cnn
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.storage.tensors import load_tensors, save_tensors
from cpnas_cli.training.baseline import (
    BASELINE_MODEL,
    BASELINE_SCHEMA,
    BaselineTraining,
    TrainedBaseline,
    read_baseline,
    write_baseline,
)
from cpnas_cli.training.trained_network import Normalization

CONFIG = load_config(overrides=TINY_SETTINGS)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(CONFIG.data)


class Stopping(Deadline):
    """Over after so many epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__(None)
        self.epochs = epochs

    def check(self, needed_seconds: float) -> None:
        del needed_seconds
        self.epochs -= 1
        if self.epochs == 0:
            raise MaxTimeReached("stopped")


def training(folder: Path, dataset: Dataset, deadline: Deadline | None = None, **overrides: Any) -> BaselineTraining:
    folder.mkdir(exist_ok=True)
    config = load_config(overrides=[*TINY_SETTINGS, *(f"{key}={value}" for key, value in overrides.items())])
    return BaselineTraining(
        RunFolder(folder),
        config,
        dataset,
        width=3,
        fabric=Fabric(accelerator="cpu", devices=1),
        deadline=deadline or Deadline(),
    )


def test_it_learns_digits(tmp_path: Path) -> None:
    """Far from the 10 % of guessing, in a few epochs of 400 images."""
    images = load_dataset(load_config(overrides=["data.num_train=400"]).data)
    settings: dict[str, Any] = {"train.num_epochs": 6, "data.num_train": 400}
    result = training(tmp_path, images, None, **settings).train()
    assert result["accuracy_test"] > 0.5
    assert (result["network"], result["genotype"], result["baseline"], result["width"]) == ("baseline", None, None, 3)
    # 9 (3 + 30 * 9) weights, 13 * 3 scales and shifts, 12 * 10 and 10 of the classifier
    assert result["num_parameters"] == 9 * (3 + 270) + 2 * 39 + 130
    assert result["size_bits"] == 32 * result["num_parameters"]


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, dataset: Dataset) -> None:
    whole = training(tmp_path / "whole", dataset).train()
    with pytest.raises(MaxTimeReached):
        training(tmp_path / "run", dataset, Stopping(2)).train()
    result = training(tmp_path / "run", dataset).train()
    assert {**result, "seconds": 0} == {**whole, "seconds": 0}
    assert (tmp_path / "run" / BASELINE_MODEL).read_bytes() == (tmp_path / "whole" / BASELINE_MODEL).read_bytes()


def test_what_needs_cells_is_left_out_and_the_rest_of_a_recipe_is_kept(tmp_path: Path, dataset: Dataset) -> None:
    """Its bits know of no auxiliary head, drop-path or first stage; a moving average counts."""
    plain, same, averaged = (
        training(tmp_path / name, dataset, None, **settings).train()
        for name, settings in (
            ("plain", {}),
            ("same", {"train.auxiliary_weight": 0.4, "train.drop_path": 0.2, "train.first_stage_epochs": 1}),
            ("averaged", {"train.ema_decay": 0.9}),
        )
    )
    models = [(tmp_path / name / BASELINE_MODEL).read_bytes() for name in ("plain", "same", "averaged")]
    assert models[0] == models[1] != models[2]
    assert plain["accuracy_test"] == same["accuracy_test"]
    assert 0 <= averaged["accuracy_test"] <= 1


def test_the_file_is_read_back(tmp_path: Path, dataset: Dataset) -> None:
    trainer = training(tmp_path, dataset)
    trainer.train()
    saved = trainer.journal.peek()
    assert saved is not None
    read = read_baseline(tmp_path / BASELINE_MODEL)
    assert (read.network.width, read.network.shape) == (3, Surroundings(8, 1, 10))
    assert read.normalization == Normalization(dataset.mean, dataset.std)
    assert not read.network.training
    for name, tensor in read.network.state_dict().items():
        assert torch.equal(tensor, saved.tensors[f"network.{name}"])


@pytest.mark.parametrize(
    "change", [{"width": 4}, {"width": 0}, {"num_classes": 9}, {"mean": [2.0]}, {"image_size": None}, {"more": 1}]
)
def test_a_description_that_does_not_fit_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / BASELINE_MODEL
    network = build_plain_cnn(3, Surroundings(8, 1, 10), seed=0)
    write_baseline(TrainedBaseline(network, Normalization((0.5,), (0.25,))), path)
    read_baseline(path)
    tensors, state = load_tensors(path, schema=BASELINE_SCHEMA)
    save_tensors(path, tensors, schema=BASELINE_SCHEMA, state=state | change)
    with pytest.raises(CheckpointError) as caught:
        read_baseline(path)
    assert "\n" not in str(caught.value)
