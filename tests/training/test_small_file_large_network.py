"""A small file that claims a large network is refused before the network takes memory or time."""

import dataclasses
import resource
import sys
from pathlib import Path

import pytest
from command_line import GENOTYPE

from cpnas_cli.errors import CheckpointError
from cpnas_cli.networks.network import build_network
from cpnas_cli.settings import Config, change_config
from cpnas_cli.training import trained_network
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork, read_trained_file, write_trained


def test_it_is_refused_before_a_network_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = change_config(Config(), {"network.num_channels": 4, "network.num_cells": 3})
    network = build_network(
        config.network, precision="binary", num_image_channels=1, num_classes=2, seed=0, genotype=GENOTYPE
    )
    normalization = Normalization((0.5,), (0.25,))
    trained = TrainedNetwork(network.eval(), config, GENOTYPE, {}, ("a", "b"), normalization, 1)
    write_trained(trained, tmp_path / "honest")
    assert read_trained_file(tmp_path / "honest").config == config
    large = change_config(config, {"network.num_channels": 1024, "network.num_cells": 100})
    write_trained(dataclasses.replace(trained, config=large), tmp_path / "hostile")
    assert (tmp_path / "hostile").stat().st_size < 200_000

    def built(*_: object, **__: object) -> None:
        raise AssertionError("a network is built")

    monkeypatch.setattr(trained_network, "build_network", built)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"describes a network of [\d,]{11,} weights and holds [\d,]{5,7} values"):
        read_trained_file(tmp_path / "hostile")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000_000 // (1 if sys.platform == "darwin" else 1024)
