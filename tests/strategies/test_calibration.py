"""The batch norms of a shared network are as they were after a calibration, whatever happens in it."""

import contextlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import NetworkConfig
from cpnas_cli.strategies.cpnas.shared_networks import calibrated

GENOTYPE = draw_uniform(seed=0)
IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def shared_network() -> Network:
    settings = NetworkConfig(num_channels=4, stem_multiplier=1)
    return build_network(settings, precision="binary", num_image_channels=1, num_classes=3, seed=0).train()


def modes(network: Network) -> set[tuple[str, bool]]:
    return {(m.statistics, m.training) for m in network.modules() if isinstance(m, BatchNorm)}


def failing_batches() -> Iterator[tuple[Tensor, Tensor]]:
    yield IMAGES, torch.zeros(4)
    raise MemoryError


def test_an_exception_among_the_calibration_batches() -> None:
    network = shared_network()
    assert modes(network) == {("none", True)}
    with pytest.raises(MemoryError), calibrated(network, GENOTYPE, failing_batches()):
        pytest.fail("the block was entered")
    assert modes(network) == {("none", True)}


def test_an_exception_in_the_block() -> None:
    network = shared_network()
    with contextlib.suppress(KeyboardInterrupt), calibrated(network, GENOTYPE, iter([(IMAGES, torch.zeros(4))])):
        assert ("collect", False) in modes(network)
        raise KeyboardInterrupt
    assert modes(network) == {("none", True)}
