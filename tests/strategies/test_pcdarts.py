"""PC-DARTS: the mixed network against its published formula written out edge by edge, and its search step by step."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import Dataset, ImageSet, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.errors import CheckpointError, MaxTimeReached, NonFiniteLossError, UsageError
from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.shapes import CellShape
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import CELL_KINDS, EDGES, INPUT_EDGES, NONE, OPERATIONS, Genotype, is_connected
from cpnas_cli.settings import NetworkConfig, load_config
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.pcdarts.mixed_network import (
    ArchitectureParameters,
    MixedCell,
    MixedNetwork,
    MixedOperation,
    build_mixed_network,
    channel_shuffle,
    check_partial_channels,
)
from cpnas_cli.strategies.pcdarts.search import MixedSearch, derive_cell, search_pcdarts

Array = NDArray[np.float64]


NUM_CLASSES = 3
INCOMING = {node: [edge for edge, (_, target) in enumerate(EDGES) if target == node] for node in range(2, 6)}


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def edge_shares(beta: Array) -> Array:
    """The public code's loop: a softmax over the first 2 betas, the next 3, the next 4, the last 5."""
    shares, start = [], 0
    for size in (2, 3, 4, 5):
        shares.append(softmax(beta[start : start + size]))
        start += size
    return np.concatenate(shares)


def numpy_of(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def random_architecture(seed: int = 0) -> ArchitectureParameters:
    """Parameters of order 1, in float64, so that every weight matters."""
    architecture = ArchitectureParameters(seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in architecture.parameters():
            parameter.normal_(generator=generator)
    return architecture


# ---------------------------------------------------------------- channel shuffle


@pytest.mark.parametrize(
    ("shape", "num_groups"),
    [
        ((2, 8, 3, 5), 4),
        ((1, 12, 1, 1), 3),
        ((3, 12, 2, 4), 4),
        ((2, 6, 4, 4), 1),
        ((2, 6, 4, 4), 6),
        ((0, 4, 2, 2), 2),
    ],
)
@pytest.mark.parametrize("is_channels_last", [True, False])
def test_the_shuffle_is_a_transposition_of_groups(
    shape: tuple[int, ...], num_groups: int, is_channels_last: bool
) -> None:
    batch, channels, height, width = shape
    plain = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    expected = plain.reshape(batch, num_groups, channels // num_groups, height, width).swapaxes(1, 2).reshape(shape)
    x = torch.from_numpy(plain)
    shuffled = channel_shuffle(x.contiguous(memory_format=torch.channels_last) if is_channels_last else x, num_groups)
    np.testing.assert_array_equal(shuffled.numpy(), expected)
    if is_channels_last:
        assert shuffled.is_contiguous(memory_format=torch.channels_last)


def test_the_shuffle_of_six_channels_by_hand() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert channel_shuffle(x, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]


# ---------------------------------------------------------------- architecture parameters


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", CELL_KINDS)
def test_the_weights_are_softmaxes_per_edge_and_per_node(kind: str, seed: int) -> None:
    architecture = random_architecture(seed)
    operations, shares = (
        numpy_of(weights(kind)) for weights in (architecture.operation_weights, architecture.edge_weights)
    )
    np.testing.assert_allclose(operations, softmax(numpy_of(architecture.alpha[kind])), rtol=1e-12)
    np.testing.assert_allclose(operations.sum(axis=1), np.ones(14), rtol=1e-12)
    np.testing.assert_allclose(shares, edge_shares(numpy_of(architecture.beta[kind])), rtol=1e-12)
    for edges in INCOMING.values():
        assert shares[edges].sum() == pytest.approx(1, abs=1e-12)


def test_equal_parameters_give_equal_shares() -> None:
    architecture = ArchitectureParameters(seed=0)
    with torch.no_grad():
        for parameter in architecture.parameters():
            parameter.fill_(5.0)
    torch.testing.assert_close(architecture.operation_weights("normal"), torch.full((14, 8), 1 / 8))
    shares = [1 / 2] * 2 + [1 / 3] * 3 + [1 / 4] * 4 + [1 / 5] * 5
    torch.testing.assert_close(architecture.edge_weights("reduce"), torch.tensor(shares))


def test_the_parameters_start_small_and_by_the_seed_alone() -> None:
    first, again, other = (ArchitectureParameters(seed=seed) for seed in (3, 3, 4))
    values = {name: parameter.detach() for name, parameter in first.named_parameters()}
    assert {name: tuple(value.shape) for name, value in values.items()} == {
        f"{name}.{kind}": shape for name, shape in (("alpha", (14, 8)), ("beta", (14,))) for kind in CELL_KINDS
    }
    everything = torch.cat([value.flatten() for value in values.values()])
    assert 0.5e-3 < everything.std() < 2e-3
    assert everything.abs().max() < 1e-2
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, values[name])
    for name, parameter in other.named_parameters():
        assert not torch.equal(parameter, values[name])
    assert not torch.equal(values["alpha.normal"], values["alpha.reduce"])


# ---------------------------------------------------------------- mixed operation and cell


@pytest.mark.parametrize("stride", [1, 2])
def test_none_adds_nothing(stride: int) -> None:
    binary = Arithmetic("binary")
    operation = MixedOperation(EdgeShape(4, stride=stride, arithmetic=binary, reduction=binary))
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    only_none = [torch.tensor(float(name == NONE)) for name in OPERATIONS]
    result = operation(Node(x), only_none)
    assert tuple(result.shape) == (3, 4, 8 // stride, 8 // stride)
    assert not result.any()
    # and whatever its weight, the rest is what it was
    weights = torch.rand(8, generator=torch.Generator().manual_seed(1))
    without = weights.clone()
    without[OPERATIONS.index(NONE)] = 0
    assert torch.equal(operation(Node(x), weights.unbind()), operation(Node(x), without.unbind()))


@pytest.mark.parametrize("name", OPERATIONS[1:])
def test_each_operation_is_weighted_by_its_own_entry(name: str) -> None:
    binary = Arithmetic("binary")
    operation = MixedOperation(EdgeShape(4, stride=1, arithmetic=binary, reduction=binary))
    x = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = [torch.tensor(0.25 if other == name else 0.0) for other in OPERATIONS]
    torch.testing.assert_close(operation(Node(x), weights), 0.25 * operation.operations[name](Node(x)))


def shape_of(kind: str, *, num_channels: int, previous_reduces: bool = False) -> CellShape:
    return CellShape((2 * num_channels, 4 * num_channels), num_channels, kind == "reduce", previous_reduces)


def build_cell(shape: CellShape, partial_channels: int) -> MixedCell:
    """In float64: the sign of a node's value must not hang on the order of its sum."""
    torch.manual_seed(0)
    settings = NetworkConfig(num_channels=shape.num_channels)
    cell = MixedCell(
        shape, partial_channels=partial_channels, shortcut=True, arithmetics=Arithmetics.of(settings, "binary")
    )
    return cell.double()


def published_mixed_operation(
    edge: torch.nn.Module, x_BCHW: Tensor, weights_O: Tensor, *, num_groups: int, stride: int
) -> Tensor:
    """The formula of the public code, one edge at a time: mix, bypass, concatenate, shuffle.

    In channels_last, like the cell: the mean of a batch can be one of a 1-bit convolution's few values,
    and then the sign behind that batch norm hangs on the order of its sum.
    """
    assert isinstance(edge, MixedOperation)
    num_mixed = x_BCHW.shape[1] // num_groups
    first, rest = x_BCHW[:, :num_mixed].contiguous(memory_format=torch.channels_last), x_BCHW[:, num_mixed:]
    total = torch.zeros_like(first[:, :, ::stride, ::stride])
    for name, weight in zip(OPERATIONS, weights_O, strict=True):
        value = torch.zeros_like(total) if name == NONE else edge.operations[name](Node(first))
        total = total + weight * value
    if stride == 2:
        batch, channels, height, width = rest.shape
        rest = rest.reshape(batch, channels, height // 2, 2, width // 2, 2).amax(dim=(3, 5))
    joined = torch.cat([total, rest], dim=1)
    batch, channels, height, width = joined.shape
    grouped = joined.reshape(batch, num_groups, channels // num_groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)


def published_cell(
    cell: MixedCell, inputs: tuple[Tensor, Tensor], weights: Tensor, shares: Tensor, *, num_groups: int, reduces: bool
) -> Tensor:
    nodes = [preprocess(Node(x)) for preprocess, x in zip(cell.preprocessing, inputs, strict=True)]
    offset = 0
    for _ in range(4):
        total = torch.zeros(())
        for source, value in enumerate(nodes):
            mixed = published_mixed_operation(
                cell.edges[offset + source],
                value,
                weights[offset + source],
                num_groups=num_groups,
                stride=2 if reduces and source < 2 else 1,
            )
            total = total + shares[offset + source] * mixed
        offset += len(nodes)
        nodes.append(total)
    return torch.cat(nodes[2:], dim=1)


def random_inputs(shape: CellShape, *, batch: int = 3, size: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = (2 * size if shape.previous_reduces else size, size)
    first, second = (
        torch.randn(batch, channels, pixels, pixels, generator=generator).double()
        for channels, pixels in zip(shape.in_channels, sizes, strict=True)
    )
    return first, second


@pytest.mark.parametrize(
    ("kind", "num_channels", "partial_channels", "previous_reduces"),
    [
        ("normal", 8, 4, False),
        ("reduce", 8, 4, True),
        ("normal", 12, 2, True),
        ("reduce", 12, 3, False),
        ("normal", 4, 1, False),
        ("normal", 4, 4, False),
    ],
)
def test_a_cell_is_the_published_formula(
    kind: str, num_channels: int, partial_channels: int, previous_reduces: bool
) -> None:
    """Values, and gradients of all architecture parameters; with k = 1 nothing bypasses the operations."""
    shape = shape_of(kind, num_channels=num_channels, previous_reduces=previous_reduces)
    cell = build_cell(shape, partial_channels)
    first, second = random_inputs(shape)
    architecture = random_architecture(seed=2)
    alpha, beta = architecture.alpha[kind], architecture.beta[kind]
    result = cell(
        (Node(first), Node(second)), architecture.operation_weights(kind), architecture.edge_weights(kind)
    ).value
    shares = torch.cat([part.softmax(0) for part in beta.split((2, 3, 4, 5))])
    expected = published_cell(
        cell,
        (first, second),
        alpha.softmax(1),
        shares,
        num_groups=partial_channels,
        reduces=kind == "reduce",
    )
    size = 4 if kind == "reduce" else 8
    assert tuple(result.shape) == (3, 4 * num_channels, size, size)
    torch.testing.assert_close(result, expected)
    direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(3)).double()
    gradients, expected_gradients = (
        torch.autograd.grad((value * direction).sum(), [alpha, beta]) for value in (result, expected)
    )
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-6, atol=1e-8)


def test_a_cell_of_none_alone_passes_the_bypass_only() -> None:
    shape = shape_of("normal", num_channels=4)
    cell = build_cell(shape, 4)
    first, second = random_inputs(shape)
    weights = torch.zeros(14, 8).double()
    weights[:, OPERATIONS.index(NONE)] = 1
    shares = torch.zeros(14).double()
    shares[[0, 2, 5, 9]] = 1  # every node listens to input 0
    result = cell((Node(first), Node(second)), weights, shares).value
    value = cell.preprocessing[0](Node(first))
    value[:, 0] = 0  # the one mixed channel; with one channel per group the shuffle changes nothing
    torch.testing.assert_close(result, value.repeat(1, 4, 1, 1))


# ---------------------------------------------------------------- network


def settings_of(**values: Any) -> NetworkConfig:
    return NetworkConfig.model_validate({"num_cells": 3, "num_channels": 4, "stem_multiplier": 1, **values})


def build(*, seed: int = 0, partial_channels: int = 2, **values: Any) -> MixedNetwork:
    return build_mixed_network(
        settings_of(**values),
        partial_channels=partial_channels,
        num_image_channels=1,
        num_classes=NUM_CLASSES,
        seed=seed,
    )


def images(batch: int = 6) -> Tensor:
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def test_the_network_gives_every_cell_the_weights_of_its_kind() -> None:
    network = build(num_cells=4).double()
    architecture = random_architecture()
    weights = {
        kind: (
            torch.from_numpy(softmax(numpy_of(architecture.alpha[kind]))),
            torch.from_numpy(edge_shares(numpy_of(architecture.beta[kind]))),
        )
        for kind in CELL_KINDS
    }
    output = network(images().double(), architecture)
    before = value = network.stem(images().double())
    for cell, kind in zip(network.cells, ("normal", "reduce", "reduce", "normal"), strict=True):
        assert isinstance(cell, MixedCell)
        expected = published_cell(cell, (before, value), *weights[kind], num_groups=2, reduces=kind == "reduce")
        before, value = value, expected
    torch.testing.assert_close(output.features, value)
    means = numpy_of(value).mean(axis=(2, 3))
    logits = means @ numpy_of(network.classifier.weight).T + numpy_of(network.classifier.bias)
    np.testing.assert_allclose(numpy_of(output.logits), logits, rtol=1e-9)


@pytest.mark.parametrize("partial_channels", [2, 4])
def test_every_parameter_gets_a_gradient(partial_channels: int) -> None:
    """`none` too, whose strength the softmax takes from the others; and every weight of every operation."""
    network = build(partial_channels=partial_channels, num_channels=8)
    architecture = ArchitectureParameters(seed=0)
    logits = network(images(), architecture).logits
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    for name, parameter in architecture.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
        if name.startswith("alpha"):
            # of a softmax: the gradients of an edge add up to nothing
            np.testing.assert_allclose(numpy_of(parameter.grad).sum(axis=1), np.zeros(14), atol=1e-6)
            assert (parameter.grad[:, OPERATIONS.index(NONE)] != 0).all(), name
    trained = dict(network.named_parameters())
    for name, parameter in trained.items():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name
    assert sum(".operations." in name for name, p in trained.items() if p.requires_grad) > 3 * 14 * 4


def test_only_the_stem_trains_its_batch_norm() -> None:
    network = build()
    in_cells = [module for module in network.cells.modules() if isinstance(module, BatchNorm)]
    in_stem = [module for module in network.stem.modules() if isinstance(module, BatchNorm)]
    assert len(in_cells) > 3 * 14 * 6
    assert len(in_stem) == 1
    assert all(norm.statistics == "none" for norm in in_cells + in_stem)
    trained = {id(parameter) for parameter in network.trained_parameters()}
    for norms, expected in ((in_cells, False), (in_stem, True)):
        for norm in norms:
            assert norm.weight.requires_grad == norm.bias.requires_grad == expected
            assert {id(norm.weight) in trained, id(norm.bias) in trained} == {expected}
    others = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert all("norm" in name or "between" in name for name in others)
    assert len(others) == 2 * len(in_cells)
    assert len(trained) == len(list(network.parameters())) - len(others)


def test_the_weights_depend_on_the_seed_alone_and_leave_the_global_state() -> None:
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    first = build(seed=7)
    assert torch.equal(torch.rand(3), expected)
    again, other = build(seed=7), build(seed=8)
    tensors = again.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(tensors[name], value), name
    filters = {name: value for name, value in first.named_parameters() if value.dim() == 4}
    assert len(filters) > 100
    others = dict(other.named_parameters())
    assert not any(torch.equal(others[name], value) for name, value in filters.items())


@pytest.mark.parametrize(("num_channels", "partial_channels"), [(6, 4), (2, 4), (4, 64), (16, 3)])
def test_channels_that_do_not_divide_are_refused(num_channels: int, partial_channels: int) -> None:
    with pytest.raises(UsageError) as caught:
        build(num_channels=num_channels, partial_channels=partial_channels)
    message = str(caught.value)
    assert "search.num_channels" in message
    assert "pcdarts.partial_channels" in message
    assert f"multiple of {partial_channels}, got {num_channels}" in message
    assert "\n" not in message


@pytest.mark.parametrize(("num_channels", "partial_channels"), [(4, 1), (4, 4), (6, 3), (16, 4)])
def test_channels_that_divide_are_not_refused(num_channels: int, partial_channels: int) -> None:
    check_partial_channels(settings_of(num_channels=num_channels), partial_channels)


# ---------------------------------------------------------------- from strengths to a cell


def rows(strong: Mapping[int, Mapping[str, float]], *, otherwise: float = 0.0) -> list[list[float]]:
    """14 rows that are `otherwise` but for {edge: {operation: strength}}."""
    return [[strong.get(edge, {}).get(op, otherwise) for op in OPERATIONS] for edge in range(14)]


def published_parse(strengths: Sequence[Sequence[float]]) -> list[str]:
    """The public code's `_parse`, after the weights were multiplied: 2 edges per node, sorted by -max, none aside."""
    cell, start = [NONE] * 14, 0
    for num_sources in range(2, 6):
        block = np.asarray(strengths[start : start + num_sources])
        candidates = np.delete(block, OPERATIONS.index(NONE), axis=1)
        for source in np.argsort(-candidates.max(axis=1), kind="stable")[:2]:
            names = [op for op in OPERATIONS if op != NONE]
            cell[start + source] = names[int(candidates[source].argmax())]
        start += num_sources
    return cell


def test_a_cell_by_hand() -> None:
    """Edges 0, 1 enter node 2; 2..4 node 3; 5..8 node 4; 9..13 node 5."""
    strong = {
        0: {"skip_connect": 0.1},
        1: {"sep_conv_5x5": 0.2},
        2: {"max_pool_3x3": 0.3, "dil_conv_3x3": 0.5, "none": 0.9},
        3: {"avg_pool_3x3": 0.4},
        4: {"dil_conv_5x5": 0.6},
        5: {"sep_conv_3x3": 0.2},
        7: {"none": 1.0},
        8: {"skip_connect": 0.1},
        9: {"skip_connect": 0.5, "sep_conv_3x3": 0.4},
        12: {"max_pool_3x3": 0.6},
        13: {"avg_pool_3x3": 0.45},
    }
    expected = {
        0: "skip_connect",
        1: "sep_conv_5x5",
        2: "dil_conv_3x3",
        4: "dil_conv_5x5",
        5: "sep_conv_3x3",
        8: "skip_connect",
        9: "skip_connect",
        12: "max_pool_3x3",
    }
    assert derive_cell(rows(strong)) == tuple(expected.get(edge, NONE) for edge in range(14))


def test_none_is_never_chosen_however_strong() -> None:
    strengths = rows({edge: {NONE: 1.0, "dil_conv_5x5": 0.01} for edge in range(14)})
    cell = derive_cell(strengths)
    assert [edge for edge, op in enumerate(cell) if op != NONE] == [0, 1, 2, 3, 5, 6, 9, 10]
    assert {op for op in cell if op != NONE} == {"dil_conv_5x5"}


def test_ties_go_to_the_earlier_edge_and_operation() -> None:
    cell = derive_cell(rows({}, otherwise=0.125))
    assert cell == tuple("skip_connect" if edge in (0, 1, 2, 3, 5, 6, 9, 10) else NONE for edge in range(14))
    strong = {
        6: {"sep_conv_3x3": 0.5, "dil_conv_3x3": 0.5},  # the earlier operation
        7: {"max_pool_3x3": 0.5},
        8: {"skip_connect": 0.5},  # equal to edges 6 and 7, and later
        13: {"avg_pool_3x3": 0.5},
    }
    cell = derive_cell(rows(strong))
    assert cell[5:9] == (NONE, "sep_conv_3x3", "max_pool_3x3", NONE)
    assert cell[9:] == ("skip_connect", NONE, NONE, NONE, "avg_pool_3x3")


@pytest.mark.parametrize("has_ties", [False, True])
def test_derived_cells_are_those_of_the_published_parse(has_ties: bool) -> None:
    generator = np.random.default_rng(int(has_ties))
    found = set()
    for _ in range(200):
        # few different values: ties in nearly every node
        strengths = generator.integers(0, 3, (14, 8)) / 4 if has_ties else generator.random((14, 8))
        cell = derive_cell(strengths.tolist())
        assert list(cell) == published_parse(strengths.tolist())
        assert NONE not in [cell[edge] for edge in INCOMING[2]]
        assert all(sum(cell[edge] != NONE for edge in edges) == 2 for edges in INCOMING.values())
        assert is_connected(cell)
        found.add(cell)
    assert len(found) == 200
    assert any(cell[edge] == NONE for cell in found for edge in INPUT_EDGES)


# ---------------------------------------------------------------- the search

# One step per epoch: 10 images train the weights, 10 the architecture.
TINY = (
    "data.num_train=20",
    "data.num_test=10",
    "network.num_channels=4",
    "network.stem_multiplier=1",
    "search.strategy=pcdarts",
    "pcdarts.num_epochs=3",
    "pcdarts.frozen_epochs=1",
    "pcdarts.batch_size=10",
    "pcdarts.partial_channels=2",
)


@functools.cache
def digits() -> Dataset:
    return load_dataset(load_config(overrides=TINY).data)


def make_search(folder: Path, *overrides: str, **values: Any) -> Search:
    folder.mkdir(exist_ok=True)
    return Search(RunFolder(folder), load_config(overrides=[*TINY, *overrides]), digits(), open_device("cpu"), **values)


def copies(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def are_equal(first: Iterable[Tensor], second: Iterable[Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(first, second, strict=True)]


def without_seconds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@dataclass(frozen=True)
class Whole:
    """An uninterrupted search, what it told, and what it found."""

    search: Search
    told: list[dict[str, Any]]
    genotype: Genotype

    @property
    def files(self) -> list[bytes]:
        return [self.search.run.checkpoint.read_bytes(), self.search.run.file(RunFolder.HISTORY).read_bytes()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Read it, never write to it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    told: list[dict[str, Any]] = []
    search = make_search(tmp_path_factory.mktemp("whole"), notify=lambda record: told.append(dict(record)))
    genotype = search_pcdarts(search)
    torch.set_num_threads(threads)
    return Whole(search, told, genotype)


def record_batches(state: MixedSearch) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """The batches that the search will read from now on, by the part of the training set they come from."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {"training": [], "validation": []}

    class Recording(Pipeline):
        def training_batches(self, images: ImageSet, **arguments: Any) -> Iterator[tuple[Tensor, Tensor]]:
            part = "validation" if images is state.images.validation else "training"
            for batch in super().training_batches(images, **arguments):
                found[part].append(batch)
                yield batch

    pipeline = state.images.pipeline
    state.images = replace(state.images, pipeline=Recording(pipeline.config, pipeline.mean, pipeline.std))
    return found


def test_frozen_epochs_train_the_weights_alone(tmp_path: Path) -> None:
    # of the other block the signs of the last cell are read by nobody, so their shifts stay
    state = MixedSearch(make_search(tmp_path, "network.block=separable"))
    for epoch in range(2):
        before, weights = copies(state.architecture.parameters()), copies(state.weights)
        record = state.train_one_epoch()
        state.epoch += 1
        assert set(are_equal(before, state.architecture.parameters())) == {epoch < 1}
        assert (record["loss_architecture"] is None) == (epoch < 1)
        assert not any(are_equal(weights, state.weights))
    norms = [module for module in state.network.cells.modules() if isinstance(module, BatchNorm)]
    assert all(bool((norm.weight == 1).all() and (norm.bias == 0).all()) for norm in norms)


def test_an_architecture_step_is_adam_on_a_validation_batch(tmp_path: Path) -> None:
    """The first step of Adam in closed form: p - lr g / (|g| + eps), with the weight decay in g."""
    state = MixedSearch(
        make_search(tmp_path, "pcdarts.architecture_learning_rate=0.01", "pcdarts.architecture_weight_decay=0.5")
    )
    batches = record_batches(state)
    start, weights = copies(state.architecture.parameters()), copies(state.network.parameters())
    loss = state.architecture_step(0)
    assert all(are_equal(weights, state.network.parameters()))
    assert all(parameter.grad is None for parameter in state.network.parameters())
    assert not batches["training"]
    ((x, labels),) = batches["validation"]
    initial = ArchitectureParameters(seed=state.search.config.seed)
    assert all(are_equal(initial.parameters(), start))
    expected = F.cross_entropy(state.network(x, initial).logits, labels)
    torch.testing.assert_close(loss, expected.detach())
    gradients = torch.autograd.grad(expected, list(initial.parameters()))
    for parameter, before, gradient in zip(state.architecture.parameters(), start, gradients, strict=True):
        decayed = numpy_of(gradient) + 0.5 * numpy_of(before)
        after = numpy_of(before) - 0.01 * decayed / (np.abs(decayed) + 1e-8)
        np.testing.assert_allclose(numpy_of(parameter), after, rtol=1e-3, atol=1e-5)


def test_the_second_architecture_step_has_adams_momenta(tmp_path: Path) -> None:
    """beta1 0.5 and beta2 0.999 with the bias corrections, without weight decay; and always another batch."""
    state = MixedSearch(make_search(tmp_path, "pcdarts.batch_size=5", "pcdarts.architecture_weight_decay=0"))
    assert state.num_steps == 2
    batches = record_batches(state)
    points = [copies(state.architecture.parameters())]
    gradients = []
    for step in range(2):
        state.architecture_step(step)
        gradients.append(copies(p.grad for p in state.architecture.parameters() if p.grad is not None))
        points.append(copies(state.architecture.parameters()))
    state.epoch = 1
    state.architecture_step(0)
    drawn = [x for x, _ in batches["validation"]]
    assert [len(x) for x in drawn] == [5] * 3
    assert len({x.numpy().tobytes() for x in drawn}) == 3
    for before, after, *both in zip(points[1], points[2], *gradients, strict=True):
        g1, g2 = (numpy_of(gradient) for gradient in both)
        mean = (0.5 * 0.5 * g1 + 0.5 * g2) / (1 - 0.5**2)
        square = (0.999 * 0.001 * g1**2 + 0.001 * g2**2) / (1 - 0.999**2)
        expected = numpy_of(before) - 6e-4 * mean / (np.sqrt(square) + 1e-8)
        np.testing.assert_allclose(numpy_of(after), expected, rtol=1e-3, atol=1e-7)


def test_an_epoch_steps_the_architecture_before_the_weights(tmp_path: Path) -> None:
    """Its losses are those of initial weights: under the initial architecture, then under the learnt one."""
    search = make_search(tmp_path, "pcdarts.frozen_epochs=0", "pcdarts.architecture_learning_rate=1")
    state, untouched = MixedSearch(search), MixedSearch(search)
    batches = record_batches(state)
    record = state.train_one_epoch()

    def loss_of(part: str, network: MixedNetwork, architecture: ArchitectureParameters) -> float:
        ((x, labels),) = batches[part]
        likelihoods = softmax(numpy_of(network(x, architecture).logits))[np.arange(10), labels.numpy()]
        return -np.log(likelihoods).mean()

    # a tolerance for single signs that fall the other way; any other order is further off
    initial, learnt = untouched.architecture, state.architecture
    close = functools.partial(pytest.approx, abs=0.02)
    assert record["loss_architecture"] == close(loss_of("validation", untouched.network, initial))
    assert record["loss_architecture"] != close(loss_of("validation", state.network, initial))
    assert record["loss"] == close(loss_of("training", untouched.network, learnt))
    assert record["loss"] != close(loss_of("training", untouched.network, initial))
    assert record["loss"] != close(loss_of("training", state.network, learnt))
    # every image of the 20 is in one of the two, and in one only
    both = torch.cat([batches[part][0][0] for part in batches])
    assert len({x.numpy().tobytes() for x in both}) == 20


def test_the_records_of_a_search(whole: Whole) -> None:
    *epochs, last = whole.search.run.history()
    assert [(record["event"], record["epoch"]) for record in epochs] == [("epoch", 0), ("epoch", 1), ("epoch", 2)]
    for record in epochs:
        assert record["network"] == "child"
        cosine = 0.001 + 0.5 * (0.1 - 0.001) * (1 + math.cos(math.pi * record["epoch"] / 3))
        assert record["learning_rate"] == pytest.approx(cosine, rel=1e-12)
        assert 0 < record["loss"] < 100
        assert 0 <= record["accuracy_train"] <= 1
        assert record["seconds"] >= 0
        assert all(is_connected(tuple(record[kind])) for kind in CELL_KINDS)
    assert epochs[0]["loss_architecture"] is None
    assert all(0 < record["loss_architecture"] < 100 for record in epochs[1:])
    assert Genotype(tuple(epochs[-1]["normal"]), tuple(epochs[-1]["reduce"])) == whole.genotype
    assert last["event"] == "architecture"
    for kind in CELL_KINDS:
        assert [(entry["from"], entry["to"]) for entry in last[kind]] == list(EDGES)
        assert {tuple(entry["strength"]) for entry in last[kind]} == {OPERATIONS}
        strengths = [list(entry["strength"].values()) for entry in last[kind]]
        assert tuple(published_parse(strengths)) == whole.genotype.cells()[kind]
        # the operations of all edges into a node add up to 1
        sums = [np.sum([strengths[edge] for edge in edges]) for edges in INCOMING.values()]
        assert sums == pytest.approx([1] * 4)


def test_the_strengths_follow_from_the_checkpoint(whole: Whole) -> None:
    tensors = load_file(whole.search.run.checkpoint)
    last = whole.search.run.history()[-1]
    for kind in CELL_KINDS:
        alpha, beta = (tensors[f"architecture.{name}.{kind}"].astype(np.float64) for name in ("alpha", "beta"))
        found = [list(entry["strength"].values()) for entry in last[kind]]
        np.testing.assert_allclose(found, softmax(alpha) * edge_shares(beta)[:, None], rtol=1e-5)


def test_a_search_tells_of_its_steps_and_epochs(whole: Whole) -> None:
    assert [record for record in whole.told if record["event"] != "progress"] == whole.search.run.history()
    steps = [(record["epoch"], record["done"], record["total"]) for record in whole.told if "done" in record]
    assert steps == [(0, 0, 1), (1, 0, 1), (2, 0, 1)]
    assert [record["event"] for record in whole.told] == ["progress", "epoch"] * 3 + ["architecture"]


def test_a_stopped_search_goes_on_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    """Stopped after the frozen epoch and after the first in which the architecture learnt."""
    expected = without_seconds(whole.search.run.history())
    for num_done in (1, 2):
        with pytest.raises(MaxTimeReached):
            search_pcdarts(make_search(tmp_path, deadline=Deadline(0.0)))
        history = tmp_path / RunFolder.HISTORY
        assert without_seconds(RunFolder(tmp_path).history()) == expected[:num_done]
        # killed between the history and the checkpoint: what is beyond the checkpoint is dropped
        with history.open("a") as file:
            file.write('{"event": "epoch", "epo')
    told: list[dict[str, Any]] = []
    resumed = make_search(tmp_path, notify=lambda record: told.append(dict(record)))
    assert search_pcdarts(resumed) == whole.genotype
    assert without_seconds(resumed.run.history()) == expected
    assert [record["epoch"] for record in told if record.get("resumed")] == [0, 1]
    first, second = (load_file(search.run.checkpoint) for search in (whole.search, resumed))
    assert first.keys() == second.keys()
    parts = {name.partition(".")[0] for name in first}
    assert parts == {"network", "optimizer", "architecture", "architecture_optimizer"}
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


def test_a_finished_search_is_not_run_again(whole: Whole) -> None:
    before = whole.files
    assert search_pcdarts(replace(whole.search, deadline=Deadline(0.0))) == whole.genotype
    assert whole.files == before


def test_another_seed_is_another_search(whole: Whole, tmp_path: Path) -> None:
    record = MixedSearch(make_search(tmp_path, "seed=1")).train_one_epoch()
    assert record["loss"] != whole.search.run.history()[0]["loss"]


def test_a_loss_that_is_not_finite_leaves_the_last_good_epoch(tmp_path: Path) -> None:
    with pytest.raises(MaxTimeReached):
        search_pcdarts(make_search(tmp_path, deadline=Deadline(0.0)))
    search = make_search(tmp_path, "pcdarts.learning_rate=1e30", "pcdarts.batch_size=5")
    files = [search.run.checkpoint, search.run.file(RunFolder.HISTORY)]
    before = [file.read_bytes() for file in files]
    with pytest.raises(NonFiniteLossError) as caught:
        search_pcdarts(search)
    message = str(caught.value)
    assert "in step 2 of 2, epoch 2 of 3; the checkpoint holds the state after epoch 1; try" in message
    assert "--set pcdarts.learning_rate" in message
    assert "\n" not in message
    assert [file.read_bytes() for file in files] == before


def test_a_loss_that_is_not_finite_in_the_first_epoch_writes_nothing(tmp_path: Path) -> None:
    search = make_search(tmp_path, "pcdarts.learning_rate=1e30", "pcdarts.batch_size=5")
    with pytest.raises(NonFiniteLossError, match="epoch 1 of 3; the checkpoint holds the state after epoch 0"):
        search_pcdarts(search)
    assert not list(tmp_path.iterdir())


def test_an_architecture_that_overflows_is_an_error_too(tmp_path: Path) -> None:
    state = MixedSearch(make_search(tmp_path, "pcdarts.architecture_learning_rate=1e39", "pcdarts.frozen_epochs=0"))
    with pytest.raises(NonFiniteLossError, match="epoch 1 of 3"):
        state.train_one_epoch()


@pytest.mark.parametrize("value", [".nan", ".inf", "0", "-0.1"])
def test_a_learning_rate_that_is_none_is_refused_before(value: str) -> None:
    with pytest.raises(UsageError, match=r"pcdarts\.learning_rate"):
        load_config(overrides=[f"pcdarts.learning_rate={value}"])


@pytest.mark.parametrize(
    ("overrides", "old", "new", "message"),
    [
        (["pcdarts.partial_channels=4"], b"", b"", "belongs to another network"),
        ([], rb"\"epoch\"", rb"\"epoxy\"", "lacks epoch; start a new run"),
        ([], b"cpnas.pcdarts-checkpoint/1", b"cpnas.pcdarts-checkpoint/9", "expected 'cpnas.pcdarts-checkpoint/1'"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    whole: Whole, tmp_path: Path, overrides: list[str], old: bytes, new: bytes, message: str
) -> None:
    content, history = whole.files
    search = make_search(tmp_path, *overrides)
    search.run.checkpoint.parent.mkdir()
    history += b'{"event": "epo'  # of an epoch that was killed: it goes once the checkpoint is known to fit
    search.run.file(RunFolder.HISTORY).write_bytes(history)
    assert not old or content.count(old) == 1
    search.run.checkpoint.write_bytes(content.replace(old, new) if old else content)
    with pytest.raises(CheckpointError, match=message):
        search_pcdarts(search)
    assert search.run.file(RunFolder.HISTORY).read_bytes() == history


def test_a_batch_larger_than_the_split_is_all_of_it(tmp_path: Path) -> None:
    state = MixedSearch(make_search(tmp_path, "pcdarts.batch_size=256"))
    batches = record_batches(state)
    assert state.num_steps == 1
    state.architecture_step(0)
    assert [len(labels) for _, labels in batches["validation"]] == [10]


def test_a_search_of_channels_that_do_not_divide_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"search\.num_channels or pcdarts\.partial_channels"):
        search_pcdarts(make_search(tmp_path, "pcdarts.partial_channels=3"))
    assert not list(tmp_path.iterdir())


def test_in_bfloat16_both_steps_compute_in_it_and_weights_stay_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(overrides=[*TINY, "search.dtype=bfloat16", "pcdarts.num_epochs=1", "pcdarts.frozen_epochs=0"])
    search = Search(RunFolder(tmp_path), config, digits(), open_device("cpu", dtype=config.search.dtype))
    state = MixedSearch(search)
    seen: list[torch.dtype] = []

    def watched(*arguments: Any) -> Any:
        output = forward(*arguments)
        seen.append(output.features.dtype)
        return output

    forward = state.network.forward
    monkeypatch.setattr(state.network, "forward", watched)
    record = state.train_one_epoch()
    assert set(seen) == {torch.bfloat16}
    assert len(seen) == 2 * state.num_steps
    assert np.isfinite([record["loss"], record["loss_architecture"]]).all()
    assert all(parameter.dtype == torch.float32 for parameter in state.weights)
