"""The training steps under measurement do what the product does, on the batch that they are given."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import training_step
from benchmarks.training_step import noise_batch, search_of, step_of_draw, step_of_pcdarts, step_of_training
from benchmarks.workload import Shape, Workload
from cpnas_cli.networks.network import build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.strategies.pcdarts.search import MixedSearch

SHAPE = Shape(num_cells=3, num_channels=4, image_size=8, batch_size=8)
WORKLOAD = Workload(SHAPE, num_images=16)
GENOTYPE = draw_uniform(seed=0)
TOTAL, CROSS_ENTROPY, KERNEL, COMPACTNESS = range(4)


def copies(tensors: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def changed(before: list[Tensor], now: Any) -> list[bool]:
    return [not torch.equal(old, new) for old, new in zip(before, now, strict=True)]


@pytest.mark.parametrize(("name", "with_loss"), [("child", True), ("child", False), ("parent", False)])
def test_the_step_of_a_training_trains_the_network_that_is_named(name: NetworkName, with_loss: bool) -> None:
    torch.manual_seed(0)
    images, labels = noise_batch(SHAPE)
    step = step_of_training(name, GENOTYPE, SHAPE, (images, labels), child_parent_loss=with_loss)
    first, second = step(), step()
    network = build_network(
        WORKLOAD.config().network,
        precision=PRECISIONS[name],
        num_image_channels=3,
        num_classes=10,
        seed=0,
        genotype=GENOTYPE,
    )
    expected = F.cross_entropy(network(images).logits, labels)
    torch.testing.assert_close(first[CROSS_ENTROPY], expected.detach())
    assert second[CROSS_ENTROPY] != first[CROSS_ENTROPY]  # the optimizer has moved the weights
    assert bool(first[KERNEL] > 0) == bool(first[COMPACTNESS] > 0) == with_loss
    torch.testing.assert_close(first[TOTAL], first[CROSS_ENTROPY] + first[KERNEL] + first[COMPACTNESS])


def test_the_step_of_a_draw_moves_what_is_drawn_and_nothing_else() -> None:
    shared = SharedNetworks(search_of(WORKLOAD))
    networks = shared.networks
    before = {name: copies(network.parameters()) for name, network in networks.items()}
    step_of_draw(shared, "child", GENOTYPE, noise_batch(SHAPE))
    drawn = {id(parameter) for parameter in networks["child"].parameters_of(GENOTYPE)}
    found = changed(before["child"], networks["child"].parameters())
    assert any(found)
    moved = [parameter for parameter, moves in zip(networks["child"].parameters(), found, strict=True) if moves]
    assert {id(parameter) for parameter in moved} <= drawn
    assert not any(changed(before["parent"], networks["parent"].parameters()))


def test_the_step_of_pcdarts_moves_weights_and_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[MixedSearch] = []

    def make(search: Any) -> MixedSearch:
        made.append(MixedSearch(search))
        return made[0]

    monkeypatch.setattr(training_step, "MixedSearch", make)
    step = step_of_pcdarts(search_of(WORKLOAD), noise_batch(SHAPE))
    (mixed,) = made
    weights, architecture = copies(mixed.weights), copies(mixed.architecture.parameters())
    step()
    assert all(changed(architecture, mixed.architecture.parameters()))
    assert sum(changed(weights, mixed.weights)) > len(weights) / 2
