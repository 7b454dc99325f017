"""A network that is trained for fewer epochs than the settings say: as with settings that say so, and after a kill."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY_SETTINGS
from safetensors.torch import load_file

from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import MaxTimeReached
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.environment import describe_environment
from cpnas_cli.runs.folder import RunFolder, open_run
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import load_config
from cpnas_cli.training.training import Training

RECIPE = ("train.ema_decay=0.9", "train.drop_path=0.2", "train.first_stage_epochs=1", "train.warmup_epochs=0")


def train(
    path: Path,
    num_epochs: int,
    *,
    shortened: Mapping[NetworkName, int] | None = None,
    max_seconds: float | None = None,
    told: list[Any] | None = None,
) -> dict[str, Any]:
    config = load_config("digits", overrides=(*TINY_SETTINGS, *RECIPE, f"train.num_epochs={num_epochs}"))
    fabric = open_device("cpu", dtype=config.train.dtype)
    with open_run(path, config, resume=True, environment=describe_environment(fabric)) as run:
        return Training(
            run,
            config,
            draw_uniform(seed=0, draw=0),
            load_dataset(config.data),
            fabric=fabric,
            networks=("child", "parent"),
            provenance={},
            deadline=Deadline(max_seconds),
            notify=(lambda _: None) if told is None else told.append,
            shortened=lambda name: None if shortened is None else shortened.get(name),
        ).train()


def weights(path: Path, file: str = RunFolder.MODEL) -> dict[str, torch.Tensor]:
    return load_file(path / file)


def test_it_is_the_training_of_settings_with_so_few_epochs(tmp_path: Path) -> None:
    """Both stages, drop-path and schedule go by the epochs that there are; the other network has all."""
    result = train(tmp_path / "short", 5, shortened={"child": 3})
    assert result["num_epochs"] == 3
    assert train(tmp_path / "three", 3)["num_epochs"] == 3
    assert train(tmp_path / "five", 5)["num_epochs"] == 5
    for other, file in (("three", RunFolder.MODEL), ("five", RunFolder.PARENT_MODEL)):
        mine, theirs = weights(tmp_path / "short", file), weights(tmp_path / other, file)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_what_was_decided_is_in_the_checkpoint(tmp_path: Path) -> None:
    """Stopped after its first epoch it goes on to the same weights, though nobody says anything any more."""
    train(tmp_path / "whole", 5, shortened={"child": 3})
    with pytest.raises(MaxTimeReached):
        train(tmp_path / "stopped", 5, shortened={"child": 3}, max_seconds=1e-3)
    told = list[Any]()
    result = train(tmp_path / "stopped", 5, told=told)
    assert result["num_epochs"] == 3
    assert [record for record in told if record["event"] == "epochs"] == [
        {"event": "epochs", "network": "child", "num_epochs": 3}
    ]
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
