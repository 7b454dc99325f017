"""Networks: shapes, counts by hand, what is 1-bit, what a genotype reads, and batch norm that forgets."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.networks.arithmetic import FULL, Arithmetic
from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.cells import Cell, Preprocessing
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.modules.pointwise import PointwiseConv
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.reduction import FactorizedReduction
from cpnas_cli.networks.modules.separable import SeparableConv
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.networks.shapes import Precision, reduction_cells
from cpnas_cli.networks.size import network_size, precision_parts
from cpnas_cli.search_space import EDGES, OPERATIONS, Genotype, draw_uniform
from cpnas_cli.settings import NetworkConfig
from cpnas_cli.strategies.cpnas.shared_networks import calibrated

FEW = settings(max_examples=12, deadline=None, derandomize=True)
PRECISIONS: tuple[Precision, ...] = ("binary", "full")
CELLS = st.tuples(*[st.sampled_from(OPERATIONS)] * 14)
CONNECTED_CELLS = CELLS.filter(lambda cell: any(cell[e] != "none" for e, (i, _) in enumerate(EDGES) if i < 2))
NUM_CLASSES = 3


def config(**values: Any) -> NetworkConfig:
    return NetworkConfig.model_validate({"num_cells": 3, "num_channels": 4, "stem_multiplier": 1, **values})


def build(
    genotype: Genotype | None = None,
    *,
    precision: Precision = "binary",
    channels: int = 1,
    seed: int = 0,
    **values: Any,
) -> Network:
    return build_network(
        config(**values),
        precision=precision,
        num_image_channels=channels,
        num_classes=NUM_CLASSES,
        seed=seed,
        genotype=genotype,
    )


def everywhere(op: str) -> Genotype:
    return Genotype((op,) * 14, (op,) * 14)


def _every_operation() -> Genotype:
    """Each of the 7 operations twice in a cell; in the reduction cell at stride 2 (from the inputs) and at stride 1."""
    twice = OPERATIONS[1:] * 2
    inputs_first = sorted(range(14), key=lambda edge: EDGES[edge][0] > 1)
    reduce = dict(zip(inputs_first, twice, strict=True))
    return Genotype(twice, tuple(reduce[edge] for edge in range(14)))


EVERY_OPERATION = _every_operation()


def images(batch: int = 4, *, channels: int = 1, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(seed))


def cells_of(network: Network) -> list[Cell]:
    return [module for module in network.modules() if isinstance(module, Cell)]


def record_outputs(network: Network) -> list[Tensor]:
    """The outputs of the cells, filled in by the next forward pass."""
    outputs: list[Tensor] = []

    def record(module: torch.nn.Module, inputs: Any, output: Node) -> None:
        assert output.shift is None  # of the block separable
        outputs.append(output.value)

    for cell in cells_of(network):
        cell.register_forward_hook(record)
    return outputs


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("num_cells", "expected"),
    [(3, (1, 2)), (4, (1, 2)), (5, (1, 3)), (6, (2, 4)), (7, (2, 4)), (8, (2, 5)), (9, (3, 6)), (20, (6, 13))],
)
def test_the_reductions_are_at_one_third_and_two_thirds(num_cells: int, expected: tuple[int, int]) -> None:
    assert reduction_cells(num_cells) == expected
    if num_cells <= 8:
        network = build(everywhere("skip_connect"), num_cells=num_cells)
        assert tuple(index for index, cell in enumerate(cells_of(network)) if cell.reduces) == expected


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("num_cells", range(3, 9))
def test_the_shapes_of_every_depth(num_cells: int, precision: Precision) -> None:
    """Each reduction halves the image and doubles the channels; a cell's output has four nodes."""
    network = build(EVERY_OPERATION, precision=precision, num_cells=num_cells)
    outputs = record_outputs(network)
    logits, features, _ = network(images(2))
    channels, size = 4, 8
    for index, output in enumerate(outputs):
        if index in reduction_cells(num_cells):
            channels, size = 2 * channels, size // 2
        assert tuple(output.shape) == (2, 4 * channels, size, size)
    assert len(outputs) == num_cells
    assert (channels, size) == (16, 2)
    assert tuple(features.shape) == (2, 64, 2, 2)
    assert tuple(logits.shape) == (2, NUM_CLASSES)
    assert network.feature_shape(8) == (64, 2, 2)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("stem_stride", "size"), [(1, 4), (1, 12), (2, 8), (2, 24), (4, 16), (4, 48)])
@pytest.mark.parametrize(("num_channels", "stem_multiplier", "channels"), [(2, 3, 1), (6, 1, 3)])
def test_the_shapes_of_every_stem(
    stem_stride: int, size: int, num_channels: int, stem_multiplier: int, channels: int, precision: Precision
) -> None:
    network = build(
        EVERY_OPERATION,
        precision=precision,
        channels=channels,
        num_channels=num_channels,
        stem_multiplier=stem_multiplier,
        stem_stride=stem_stride,
    )
    x = images(2, channels=channels, size=size)
    stem_shape = (2, stem_multiplier * num_channels, size // stem_stride, size // stem_stride)
    assert tuple(network.stem(x).shape) == stem_shape
    logits, features, _ = network(x)
    expected = (16 * num_channels, size // stem_stride // 4, size // stem_stride // 4)
    assert tuple(features.shape[1:]) == network.feature_shape(size) == expected
    assert tuple(logits.shape) == (2, NUM_CLASSES)


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_the_stem_reads_every_pixel(stem_stride: int) -> None:
    network = build(everywhere("skip_connect"), precision="full", stem_stride=stem_stride)
    x = images(2, size=16).requires_grad_()
    network.stem[0](x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


# ---------------------------------------------------------------- counts


def edge_parameters(op: str, channels: int, *, stride: int, precision: Precision) -> int:
    norm = 2 * channels
    match op:
        case "none":
            return 0
        case "skip_connect":
            return 0 if stride == 1 else channels * channels + norm
        case "max_pool_3x3" | "avg_pool_3x3":
            return norm
        case _:
            taps = int(op[-1]) ** 2
            return taps * channels + channels * channels + norm + (norm if precision == "binary" else 0)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op", OPERATIONS[1:])
def test_the_parameters_of_three_cells_by_hand(op: str, precision: Precision) -> None:
    """4 channels in the first cell, a stem of 12, colour: a normal cell, then two reductions."""

    def cell(channels: int, *, reduces: bool) -> int:
        from_inputs = edge_parameters(op, channels, stride=2 if reduces else 1, precision=precision)
        return 8 * from_inputs + 6 * edge_parameters(op, channels, stride=1, precision=precision)

    stem = 3 * 3 * 3 * 12 + 24
    first = 2 * (12 * 4 + 8) + cell(4, reduces=False)
    second = (12 * 8 + 16) + (16 * 8 + 16) + cell(8, reduces=True)
    third = (16 * 16 + 32) + (32 * 16 + 32) + cell(16, reduces=True)  # 16 -> 8 + 8 over even and odd pixels
    classifier = 64 * NUM_CLASSES + NUM_CLASSES
    network = build(everywhere(op), precision=precision, channels=3, stem_multiplier=3)
    assert sum(p.numel() for p in network.parameters()) == stem + first + second + third + classifier


def test_a_network_of_separable_convolutions_by_hand() -> None:
    """The same once more as plain figures: stem, 3 cells, classifier of a Child of sep_conv_3x3."""
    network = build(everywhere("sep_conv_3x3"), channels=3, stem_multiplier=3)
    edges = 14 * (36 + 8 + 16 + 8) + 14 * (72 + 16 + 64 + 16) + 14 * (144 + 32 + 256 + 32)
    preprocessing = 112 + 256 + 288 + 544
    assert sum(p.numel() for p in network.parameters()) == 348 + edges + preprocessing + 195 == 11543


@pytest.mark.parametrize("real_parts", [(), ("preprocessing",), ("factorized_reduction",)])
def test_the_size_of_a_network_by_hand(real_parts: tuple[str, ...]) -> None:
    """1 bit per weight of a 1-bit convolution, 32 per real value, 8 per threshold of a batch norm between two."""
    genotype = Genotype(("sep_conv_3x3",) * 14, ("skip_connect",) * 14)
    size = network_size(build(genotype, channels=3, stem_multiplier=3, real_parts=real_parts))
    separable = 14 * (36 + 16)
    pointwise = 2 * 48 + 96 + 128 + 512
    factorized = 256 + 8 * 64 + 8 * 256  # the third cell's first input, and the 8 stride-2 edges of each reduction
    norms = 24 + 2 * 8 + 14 * 8 + (16 + 16 + 8 * 16) + (32 + 32 + 8 * 32)
    thresholds = 14 * 4
    real = 3 * 3 * 3 * 12 + norms + 195
    binary = separable
    binary, real = (binary, real + pointwise) if "preprocessing" in real_parts else (binary + pointwise, real)
    binary, real = (binary, real + factorized) if "factorized_reduction" in real_parts else (binary + factorized, real)
    assert (size.num_binary_weights, size.num_real_values) == (binary, real)
    assert size.num_thresholds == thresholds
    assert size.num_parameters == binary + real + 2 * thresholds
    assert size.size_bits == binary + 32 * real + 8 * thresholds


def test_the_size_of_a_parent_is_all_real() -> None:
    network = build(EVERY_OPERATION, precision="full")
    size = network_size(network)
    assert size.num_binary_weights == 0
    assert size.size_bits == 32 * sum(p.numel() for p in network.parameters())


# ---------------------------------------------------------------- what is 1-bit


class Products(TorchDispatchMode):
    """Records input and filters (C_out, taps) of every convolution and matrix product that torch computes."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[Tensor, Tensor, dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if name == "aten::convolution":
            x, weight, _, _, _, dilation, _, _, groups = args
            shape = {"kernel": weight.shape[-1], "dilation": dilation[0], "depthwise": groups > 1}
            self.products.append((x.detach().clone(), weight.detach().clone().flatten(1), shape))
        elif name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear"):
            x, weight = args[-2:]
            if weight.dim() == 3:  # one matrix, repeated over the batch
                assert bool((weight == weight[:1]).all())
                weight = weight[0]
            self.products.append((x.detach().clone(), weight.detach().clone().T, {"matrix": name}))
        else:
            assert "conv" not in name, name
        return func(*args, **(kwargs or {}))


def is_one_bit(x: Tensor, filters: Tensor) -> bool:
    """+1 and -1 only, and one absolute value per filter: zeros come from the padding, which is not in x."""
    return bool((x.abs() == 1).all()) and bool((filters.abs() == filters.abs()[:, :1]).all())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("estimator", ["clipped", "polynomial"])
def test_all_of_a_child_but_stem_and_classifier_is_one_bit(estimator: str, training: bool) -> None:
    genotypes = [EVERY_OPERATION, draw_uniform(seed=0), draw_uniform(seed=1)]
    kinds = set()
    for genotype in genotypes:
        network = build(genotype, num_cells=5, estimator=estimator).train(training)
        with Products() as recorded, torch.set_grad_enabled(training):
            network(images(3, size=16))
        (x, filters, _), *inner, (_, classifier, _) = recorded.products
        torch.testing.assert_close(x.float(), images(3, size=16))
        assert not is_one_bit(x, filters)
        assert torch.equal(classifier, network.classifier.weight)
        assert len(inner) == sum(isinstance(module, BinaryConv2d) for module in network.modules())
        for x, filters, shape in inner:
            assert is_one_bit(x, filters), shape
            kinds.add(tuple(shape.items()))
    assert len(kinds) >= 3  # depthwise 3x3 and 5x5, dilated (here or thinned), and 1x1
    assert any(dict(kind).get("dilation") == 2 for kind in kinds)


def test_the_filters_are_the_scaled_signs_of_the_latent_ones() -> None:
    network = build(EVERY_OPERATION).train()
    latent = {}
    for module in network.modules():
        if isinstance(module, BinaryConv2d):
            weight = module.weight.detach().numpy()
            scale = np.abs(weight).reshape(len(weight), -1).mean(axis=1)
            latent[np.sign(weight).tobytes()] = scale
            assert weight.std() > 0
    with Products() as recorded, torch.no_grad():
        network(images(2))
    for _, filters, _ in recorded.products[1:-1]:
        scale = latent[np.ascontiguousarray(np.sign(filters.numpy())).tobytes()]
        np.testing.assert_allclose(filters.abs()[:, 0].numpy(), scale, rtol=1e-5)


def binary_parts(network: Network) -> dict[str, set[bool]]:
    """Whether the convolutions of each part are 1-bit."""
    found: dict[str, set[bool]] = {"preprocessing": set(), "factorized_reduction": set(), "separable": set()}
    kinds = {PointwiseConv: "preprocessing", FactorizedReduction: "factorized_reduction", SeparableConv: "separable"}
    for module in network.modules():
        if type(module) in kinds:
            convolutions = [m for m in module.children() if isinstance(m, (BinaryConv2d, RealConv2d))]
            assert len(convolutions) == (1 if isinstance(module, PointwiseConv) else 2)
            found[kinds[type(module)]] |= {isinstance(m, BinaryConv2d) for m in convolutions}
    return found


@pytest.mark.parametrize(
    "real_parts", [(), ("preprocessing",), ("factorized_reduction",), ("preprocessing", "factorized_reduction")]
)
def test_what_is_named_real_stays_real(real_parts: tuple[str, ...]) -> None:
    network = build(EVERY_OPERATION, real_parts=real_parts)
    parts = binary_parts(network)
    assert parts == {part: {part not in real_parts} for part in parts}
    described = precision_parts(config(real_parts=real_parts), "binary")
    for part in ("preprocessing", "factorized_reduction"):
        assert (part in described["real"]) == (part in real_parts) == (part not in described["binary"])
    with Products() as recorded, torch.no_grad():
        network(images(2))
    num_real = sum(not is_one_bit(x, filters) for x, filters, _ in recorded.products)
    assert num_real == 2 + sum(isinstance(m, RealConv2d) for m in network.modules()) - 1
    network(images(2)).logits.sum().backward()


def test_nothing_of_a_parent_is_one_bit() -> None:
    for network in (build(precision="full"), build(EVERY_OPERATION, precision="full")):
        assert not any(isinstance(module, BinaryConv2d) for module in network.modules())
        assert network.latent_filters(EVERY_OPERATION) == []
    assert binary_parts(build(EVERY_OPERATION, precision="full")) == {
        "preprocessing": {False},
        "factorized_reduction": {False},
        "separable": {False},
    }
    assert precision_parts(config(), "full")["binary"] == []


def test_the_latent_filters_are_those_of_the_genotype() -> None:
    shared, genotype = build(), draw_uniform(seed=3)
    expected = [tuple(m.weight.shape) for m in build(genotype).modules() if isinstance(m, BinaryConv2d)]
    assert sorted(tuple(h.shape) for h in shared.latent_filters(genotype)) == sorted(expected)


# ---------------------------------------------------------------- the operations, against numpy


def shifted(x_BCHW: np.ndarray, row: int, column: int, *, stride: int, fill: float) -> np.ndarray:
    """The pixel (row, column) away from every stride-th pixel."""
    size, far = x_BCHW.shape[2], 8
    padded = np.pad(x_BCHW, ((0, 0), (0, 0), (far, far), (far, far)), constant_values=fill)
    return padded[:, :, far + row : far + row + size : stride, far + column : far + column + size : stride]


def taps(kernel_size: int, dilation: int = 1) -> Iterator[tuple[int, int, int, int]]:
    """Row and column in the filter, and how far away from its centre that is."""
    for r in range(kernel_size):
        for c in range(kernel_size):
            yield r, c, dilation * (r - kernel_size // 2), dilation * (c - kernel_size // 2)


def sign(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1.0, -1.0)


def filters_of(weight: np.ndarray, precision: Precision) -> np.ndarray:
    if precision == "full":
        return weight
    return sign(weight) * np.abs(weight).mean(axis=(1, 2, 3), keepdims=True)


def activated(x: np.ndarray, precision: Precision) -> np.ndarray:
    return sign(x) if precision == "binary" else np.maximum(x, 0)


def pointwise(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0])


def values(tensor: Any) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def normed(x: np.ndarray, norm: Any) -> np.ndarray:
    mean, var, weight, bias = (
        values(v)[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def operation(op: str, *, stride: int, precision: Precision, channels: int = 4) -> Any:
    """In evaluation mode, with a batch norm that does something."""
    arithmetic = Arithmetic(precision)
    torch.manual_seed(0)
    module = operation_of(op).build(EdgeShape(channels, stride, arithmetic, arithmetic)).eval()
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, BatchNorm):
                for tensor in (norm.running_mean, norm.weight, norm.bias):
                    tensor.normal_()
                norm.running_var.uniform_(0.5, 2)
    return module


def run(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    node = Node(torch.from_numpy(x.astype(np.float32)).contiguous(memory_format=torch.channels_last))
    with torch.no_grad():
        return module(node).numpy()


NODE = np.random.default_rng(0).normal(size=(2, 4, 8, 8))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", ["max_pool_3x3", "avg_pool_3x3"])
def test_pooling(op: str, stride: int, precision: Precision) -> None:
    """The same in Child and Parent: on the real values, and padding counts neither in a maximum nor in a mean."""
    module = operation(op, stride=stride, precision=precision)
    windows = [shifted(NODE, row, column, stride=stride, fill=np.nan) for *_, row, column in taps(3)]
    pooled = (np.nanmax if op == "max_pool_3x3" else np.nanmean)(windows, axis=0)
    result = run(module, NODE)
    assert result.shape == (2, 4, 8 // stride, 8 // stride)
    np.testing.assert_allclose(result, normed(pooled, module.norm), atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"])
def test_separable_convolutions(op: str, stride: int, precision: Precision) -> None:
    """Child: sign, depthwise, norm, sign, 1x1, norm. Parent: ReLU, depthwise, 1x1, norm."""
    module = operation(op, stride=stride, precision=precision)
    dilation = 2 if op.startswith("dil") else 1
    depthwise = filters_of(values(module.depthwise.weight), precision)
    x = activated(NODE, precision)
    x = np.sum(
        [
            depthwise[None, :, 0, r, c, None, None] * shifted(x, row, column, stride=stride, fill=0)
            for r, c, row, column in taps(int(op[-1]), dilation)
        ],
        axis=0,
    )
    if precision == "binary":
        x = sign(normed(x, module.between))
    else:
        assert module.between is None
    x = pointwise(x, filters_of(values(module.pointwise.weight), precision))
    np.testing.assert_allclose(run(module, NODE), normed(x, module.norm), atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_skip_at_stride_1_is_the_real_value(precision: Precision) -> None:
    np.testing.assert_array_equal(run(operation("skip_connect", stride=1, precision=precision), NODE), NODE.astype("f"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("channels", [4, 5])
def test_skip_at_stride_2_is_a_factorized_reduction(channels: int, precision: Precision) -> None:
    node = np.random.default_rng(1).normal(size=(2, channels, 8, 8))
    module = operation("skip_connect", stride=2, precision=precision, channels=channels)
    x = activated(node, precision)
    halves = [(module.even, x[:, :, ::2, ::2]), (module.odd, x[:, :, 1::2, 1::2])]
    expected = np.concatenate([pointwise(h, filters_of(values(m.weight), precision)) for m, h in halves], axis=1)
    np.testing.assert_allclose(run(module, node), normed(expected, module.norm), atol=1e-4)


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("in_channels", [4, 12, 6])
def test_the_shortcut_around_the_preprocessing(in_channels: int, halves: bool) -> None:
    """The mean over groups of 4 channels, and over 2x2 pixels where the image shrinks; none where 4 does not divide."""
    torch.manual_seed(0)
    arithmetics = Arithmetics.of(config(), "binary")
    module = Preprocessing(in_channels, 4, halves=halves, shortcut=True, arithmetics=arithmetics).eval()
    node = np.random.default_rng(1).normal(size=(2, in_channels, 8, 8))
    added = run(module, node) - run(module.convolution, node)
    if in_channels == 6:
        assert not added.any()
        return
    x = node.reshape(2, in_channels, 4, 2, 4, 2).mean(axis=(3, 5)) if halves else node
    np.testing.assert_allclose(added, x.reshape(2, -1, 4, *x.shape[2:]).mean(axis=1), atol=1e-5)


def test_an_unknown_operation_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="'conv_7x7'") as caught:
        operation_of("conv_7x7")
    assert all(op in str(caught.value) for op in OPERATIONS)
    with pytest.raises(ValueError, match="'none' has no module"):
        operation_of("none").build(EdgeShape(4, 1, FULL, FULL))


# ---------------------------------------------------------------- dead nodes


def without_inputs(node: int, cell: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("none" if to == node else op for (_, to), op in zip(EDGES, cell, strict=True))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("node", [2, 3, 4, 5])
def test_a_dead_node_is_zero_and_what_leaves_it_is_nothing(node: int, precision: Precision) -> None:
    cell = without_inputs(node, ("sep_conv_3x3",) * 14)
    bare = tuple("none" if i == node else op for (i, _), op in zip(EDGES, cell, strict=True))
    network, without = (build(Genotype(c, c), precision=precision) for c in (cell, bare))
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in without.parameters())
    outputs = record_outputs(network)
    logits, *_ = network(images())
    for output in outputs:
        by_node = output.chunk(4, dim=1)
        assert [bool(value.any()) for value in by_node] == [n != node for n in range(2, 6)]
    without.load_state_dict(network.state_dict())
    assert torch.equal(without(images()).logits, logits)
    shared = build(precision=precision)
    assert len(shared.parameters_of(Genotype(cell, cell))) == len(list(without.parameters()))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_node_behind_a_dead_node_is_dead(precision: Precision) -> None:
    """Node 2 reads nothing, node 3 reads only node 2."""
    cell = tuple("none" if to == 2 or (to == 3 and i < 2) else "skip_connect" for i, to in EDGES)
    features = build(Genotype(cell, cell), precision=precision)(images()).features
    assert [bool(value.any()) for value in features.chunk(4, dim=1)] == [False, False, True, True]


# ---------------------------------------------------------------- dependence on the image


@pytest.mark.parametrize("precision", PRECISIONS)
@FEW
@given(normal=CONNECTED_CELLS, reduce=CONNECTED_CELLS)
def test_a_connected_genotype_sees_the_image(
    precision: Precision, normal: tuple[str, ...], reduce: tuple[str, ...]
) -> None:
    network = build(Genotype(normal, reduce), precision=precision)
    with torch.no_grad():
        first, second = (network(images(12, seed=seed)).logits for seed in (1, 2))
    assert first.isfinite().all()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kinds", [("normal",), ("reduce",), ("normal", "reduce")])
def test_a_disconnected_draw_still_runs(kinds: tuple[str, ...], precision: Precision) -> None:
    shared = build(precision=precision)
    cells = {kind: ("none",) * 14 if kind in kinds else EVERY_OPERATION.cells()[kind] for kind in ("normal", "reduce")}
    genotype = Genotype(**cells)
    logits, features, _ = shared(images(), genotype)
    assert tuple(features.shape) == (4, 64, 2, 2)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert shared.classifier.bias.grad is not None
    for parameter in shared.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    if "reduce" in kinds:
        assert not features.any()
        assert torch.equal(logits, shared.classifier.bias.expand(4, -1))
    with calibrated(shared, genotype, iter([(images(), torch.zeros(4))])), torch.no_grad():
        assert shared(images(), genotype).logits.isfinite().all()


# ---------------------------------------------------------------- the shared network


def copied(shared: Network, genotype: Genotype, *, precision: Precision) -> Network:
    """The genotype's own network, with the weights that the shared one has for it."""
    network = build(genotype, precision=precision)
    state = shared.state_dict()
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network


@pytest.mark.parametrize("precision", PRECISIONS)
@FEW
@given(normal=CONNECTED_CELLS, reduce=CONNECTED_CELLS)
def test_the_shared_network_is_the_network_of_the_genotype(
    precision: Precision, normal: tuple[str, ...], reduce: tuple[str, ...]
) -> None:
    shared, genotype = build(precision=precision), Genotype(normal, reduce)
    network = copied(shared, genotype, precision=precision)
    logits, features, _ = network(images())
    shared_logits, shared_features, _ = shared(images(), genotype)
    assert torch.equal(shared_logits, logits)
    assert torch.equal(shared_features, features)
    shapes = [p.shape for p in network.parameters()]
    assert sorted(p.shape for p in shared.parameters_of(genotype)) == sorted(shapes)


def uses_both_inputs(cell: tuple[str, ...]) -> bool:
    return all(any(op != "none" for (i, _), op in zip(EDGES, cell, strict=True) if i == source) for source in (0, 1))


@pytest.mark.parametrize("precision", PRECISIONS)
@FEW
@given(normal=CELLS, reduce=CELLS)
def test_the_parameters_of_a_genotype_are_those_with_a_gradient(
    precision: Precision, normal: tuple[str, ...], reduce: tuple[str, ...]
) -> None:
    """All of them where both cells read both inputs; else an input's preprocessing is computed for nothing."""
    shared, genotype = build(precision=precision), Genotype(normal, reduce)
    F.cross_entropy(shared(images(), genotype).logits, torch.tensor([0, 1, 2, 0])).backward()
    listed = shared.parameters_of(genotype)
    assert len({id(p) for p in listed}) == len(listed)
    with_gradient = {id(p) for p in shared.parameters() if p.grad is not None}
    assert with_gradient <= {id(p) for p in listed}
    if uses_both_inputs(normal) and uses_both_inputs(reduce):
        assert with_gradient == {id(p) for p in listed}


def test_a_shared_network_needs_a_genotype() -> None:
    with pytest.raises(ValueError, match="genotype"):
        build()(images())


def test_the_weights_depend_on_seed_and_precision_only() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = build(), build(seed=1)
    found = again.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, found[name])
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert not torch.equal(first.classifier.weight, build(precision="full").classifier.weight)


# ---------------------------------------------------------------- batch norm


FIRST, SECOND = draw_uniform(seed=0), draw_uniform(seed=1)


def calibration(*seeds: int, batch: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    return iter([(images(batch, seed=seed), torch.zeros(batch, dtype=torch.int64)) for seed in seeds])


def validated(shared: Network, genotype: Genotype, *seeds: int) -> Tensor:
    with calibrated(shared, genotype, calibration(*seeds)), torch.no_grad():
        return shared(images(16, seed=99), genotype).logits


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_of_another_draw_leaks_into_an_evaluation(precision: Precision) -> None:
    shared = build(precision=precision)
    expected = validated(shared, FIRST, 1, 2, 3)
    assert not torch.equal(expected, validated(shared, FIRST, 4, 5, 6))  # the statistics do matter
    weights = {name: value.clone() for name, value in shared.named_parameters()}
    optimizer = torch.optim.SGD(shared.parameters_of(SECOND), lr=0.5)
    for seed in (7, 8, 9):
        optimizer.zero_grad()
        F.cross_entropy(shared(100 * images(seed=seed), SECOND).logits, torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    validated(shared, SECOND, 10, 11)
    assert not torch.equal(expected, validated(shared, FIRST, 1, 2, 3))  # some weights are shared, and changed
    with torch.no_grad():
        for name, parameter in shared.named_parameters():
            parameter.copy_(weights[name])
    assert torch.equal(validated(shared, FIRST, 1, 2, 3), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_in_a_shared_network_keeps_no_statistics(precision: Precision) -> None:
    shared = build(precision=precision)
    before = {name: value.clone() for name, value in shared.named_buffers()}
    shared(images(), FIRST)
    assert before
    for name, value in shared.named_buffers():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_statistics_are_the_mean_over_the_batches(precision: Precision) -> None:
    """Of the stem's batch norm: plain means of each batch's mean and (unbiased) variance, of unequal batches too."""
    shared = build(precision=precision)
    validated(shared, SECOND, 20, 21)  # what was kept before is of no account
    batches = [(images(size, seed=size), torch.zeros(size)) for size in (8, 3, 5)]
    with torch.no_grad():
        outputs = [shared.stem[0](x).numpy().astype(np.float64) for x, _ in batches]
    means = [output.mean(axis=(0, 2, 3)) for output in outputs]
    variances = [output.var(axis=(0, 2, 3), ddof=1) for output in outputs]
    norm = shared.stem[1]
    assert isinstance(norm, BatchNorm)
    with calibrated(shared, FIRST, iter(batches)):
        np.testing.assert_allclose(norm.running_mean.numpy(), np.mean(means, axis=0), atol=1e-5)
        np.testing.assert_allclose(norm.running_var.numpy(), np.mean(variances, axis=0), rtol=1e-4)
        assert not norm.training
        with torch.no_grad():
            out = shared.stem(batches[0][0]).numpy()
        np.testing.assert_allclose(out, normed(outputs[0], norm), atol=1e-4)
    assert all(module.training for module in shared.batch_norms_of(FIRST))
    assert all(module.statistics == "none" for module in shared.batch_norms_of(FIRST))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_evaluation_does_not_depend_on_its_batches(precision: Precision) -> None:
    shared = build(precision=precision)
    with calibrated(shared, FIRST, calibration(1, 2)), torch.no_grad():
        whole = shared(images(16, seed=99), FIRST).logits
        parts = [shared(part, FIRST).logits for part in images(16, seed=99).split(5)]
    np.testing.assert_allclose(torch.cat(parts).numpy(), whole.numpy(), atol=1e-4)


def test_a_network_that_is_trained_keeps_an_exponential_mean() -> None:
    norm = BatchNorm(2)
    mean, var = np.zeros(2), np.ones(2)
    for seed in range(3):
        x = images(6, channels=2, seed=seed) * 3 + 1
        norm(x)
        pixels = x.numpy().astype(np.float64)
        mean = 0.9 * mean + 0.1 * pixels.mean(axis=(0, 2, 3))
        var = 0.9 * var + 0.1 * pixels.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, atol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), var, rtol=1e-5)
    assert math.isclose(norm.eps, 1e-5)
