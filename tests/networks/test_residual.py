"""The residual block, its endings, and values as they are stored: against formulas in numpy."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.cells import Cell
from cpnas_cli.networks.modules.classifier import Classifier
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.modules.residual import Halving, ResidualConv
from cpnas_cli.networks.modules.stored import stored, stored_filters
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.networks.shapes import Precision, stem_kernel_size, stem_shapes
from cpnas_cli.networks.size import network_size, precision_parts
from cpnas_cli.networks.stem_arithmetic import largest_step
from cpnas_cli.search_space import EDGES, Genotype, draw_uniform
from cpnas_cli.settings import NetworkConfig

PRECISIONS: tuple[Precision, ...] = ("binary", "full")
MANY = settings(max_examples=100, deadline=None, derandomize=True)
KERNELS = {"sep_conv_3x3": (3, 1), "sep_conv_5x5": (5, 1), "dil_conv_3x3": (3, 2), "dil_conv_5x5": (5, 2)}


def residual(**values: Any) -> NetworkConfig:
    return NetworkConfig.model_validate({"block": "residual", "num_channels": 4, "stem_multiplier": 1, **values})


def built_operation(op: str, *, stride: int, precision: Precision, **values: Any) -> Any:
    network = residual(**values)
    torch.manual_seed(3)
    return operation_of(op).build(Arithmetics.of(network, precision).edge(network.num_channels, stride=stride))


def built_network(genotype: Genotype, precision: Precision = "binary", **values: Any) -> Network:
    return build_network(
        residual(**values), precision=precision, num_image_channels=3, num_classes=3, seed=0, genotype=genotype
    )


def everywhere(op: str) -> Genotype:
    return Genotype((op,) * len(EDGES), (op,) * len(EDGES))


# ---------------------------------------------------------------- the block


def halved(x_BCHW: np.ndarray) -> np.ndarray:
    return (x_BCHW[:, :, ::2, ::2] + x_BCHW[:, :, ::2, 1::2] + x_BCHW[:, :, 1::2, ::2] + x_BCHW[:, :, 1::2, 1::2]) / 4


def grouped(x_BCHW: np.ndarray, w: np.ndarray, *, stride: int, dilation: int) -> np.ndarray:
    """With zeros around the image, in float64."""
    batch, channels, size, _ = x_BCHW.shape
    out_channels, width, kernel_size, _ = w.shape
    padding = dilation * (kernel_size - 1) // 2
    padded = np.pad(x_BCHW, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    result = np.zeros((batch, out_channels, size // stride, size // stride))
    for o in range(out_channels):
        first = o // (out_channels // (channels // width)) * width
        for i, j in np.ndindex(kernel_size, kernel_size):
            rows = slice(i * dilation, i * dilation + size, stride)
            columns = slice(j * dilation, j * dilation + size, stride)
            result[:, o] += np.einsum("bcyx,c->byx", padded[:, first : first + width, rows, columns], w[o, :, i, j])
    return result


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("group_width", [1, 2, 4, 64])
@pytest.mark.parametrize("op", KERNELS)
def test_a_convolution_with_its_residual(op: str, group_width: int, stride: int, precision: Precision) -> None:
    """y = BN(conv(sign(x + b))) + x in the Child, BN(conv(x)) + x in the Parent; x halved at stride 2."""
    module: Any = built_operation(op, stride=stride, precision=precision, group_width=group_width).train()
    assert module.__class__.__name__ == ResidualConv.__name__
    generator = np.random.default_rng(0)
    x, b = generator.normal(size=(3, 4, 8, 8)).astype(np.float32), generator.normal(size=4).astype(np.float32)
    found = module(Node(torch.tensor(x), torch.tensor(b))).detach().numpy()
    latent = module.convolution.weight.detach().double().numpy()
    kernel_size, dilation = KERNELS[op]
    assert latent.shape == (4, min(group_width, 4), kernel_size, kernel_size)
    if precision == "binary":
        read = np.where(x + b[:, None, None] >= 0, 1.0, -1.0)
        w = np.where(latent >= 0, 1, -1) * np.abs(latent).mean(axis=(1, 2, 3), keepdims=True)
    else:
        read, w = x.astype(np.float64), latent
    y = grouped(read, w, stride=stride, dilation=dilation)
    mean, var = y.mean(axis=(0, 2, 3), keepdims=True), y.var(axis=(0, 2, 3), keepdims=True)
    expected = (y - mean) / np.sqrt(var + 1e-5) + (halved(x) if stride == 2 else x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)


def test_a_skip_of_stride_2_is_the_mean_over_2x2_pixels() -> None:
    module = built_operation("skip_connect", stride=2, precision="binary")
    assert isinstance(module, Halving)
    x = np.random.default_rng(1).normal(size=(2, 4, 6, 6)).astype(np.float32)
    np.testing.assert_allclose(module(Node(torch.tensor(x))).numpy(), halved(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("activation", ["none", "prelu", "rprelu"])
@pytest.mark.parametrize("sign_shift", [True, False])
def test_an_ending(activation: str, sign_shift: bool) -> None:
    """PReLU(x + g) + z, and b before the sign alone; each learned value gets a gradient."""
    ending = Ending(3, activation=activation, sign_shift=sign_shift)
    generator = np.random.default_rng(2)
    rows = [generator.normal(size=3).astype(np.float32) for _ in ending.values]
    starts = {"none": [], "prelu": [0.25], "rprelu": [0, 0.25, 0]}[activation] + [0] * sign_shift
    for value, start, row in zip(ending.values, starts, rows, strict=True):
        assert (value == start).all()
        value.data.copy_(torch.tensor(row))
    x = generator.normal(size=(2, 3, 5, 5)).astype(np.float32)
    node = ending(torch.tensor(x))
    g, slope, z = {
        "none": (np.zeros(3), np.ones(3), np.zeros(3)),
        "prelu": (np.zeros(3), rows[0] if rows else None, np.zeros(3)),
        "rprelu": tuple(rows[:3]),
    }[activation]
    moved = x + np.asarray(g)[:, None, None]
    expected = np.where(moved > 0, moved, moved * np.asarray(slope)[:, None, None]) + np.asarray(z)[:, None, None]
    np.testing.assert_allclose(node.value.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    b = rows[-1] if sign_shift else np.zeros(3)
    signs = node.sign(Estimator())
    np.testing.assert_array_equal(signs.detach().numpy(), np.where(expected + b[:, None, None] >= 0, 1, -1))
    if rows:
        (node.value.square().sum() + signs.sum()).backward()
    assert all(value.grad is not None and value.grad.any() for value in ending.values)


def test_the_value_goes_on_without_the_shift_of_its_sign() -> None:
    """b moves what a 1-bit convolution reads, not the residual, the skip or the next cell."""
    ending = Ending(2, activation="none", sign_shift=True)
    ending.values[0].data.fill_(100.0)
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    node = ending(x)
    assert torch.equal(node.value, x)
    assert (node.sign(Estimator()) == 1).all()


def test_what_a_network_keeps_real_is_said() -> None:
    parts = precision_parts(residual(activation="rprelu"), "binary")
    assert parts["binary"][0] == "grouped convolutions"
    for text in ("residuals around the convolutions", "rprelu of the values", "shifts before signs"):
        assert text in parts["real"]
    plain = precision_parts(residual(activation="none", sign_shift=False), "binary")["real"]
    assert "residuals around the convolutions" in plain
    assert not [part for part in plain if "shift" in part or "relu" in part]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_genotype_trains_what_it_reads(precision: Precision) -> None:
    """Of the shared network too: the endings of dead nodes are no parameters of a genotype."""
    cell = tuple("sep_conv_3x3" if edge in ((0, 3), (1, 4)) else "none" for edge in EDGES)
    genotype = Genotype(cell, cell)
    shared = build_network(residual(), precision=precision, num_image_channels=3, num_classes=3, seed=0)
    logits = shared.train()(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), genotype).logits
    logits.square().sum().backward()
    reached = {id(p) for p in shared.parameters() if p.grad is not None}
    unread = {id(p) for p in shared.parameters_of(genotype)} - reached
    assert reached <= {id(p) for p in shared.parameters_of(genotype)}
    # what is before the sign of a value whose sign nothing reads: nodes 3 and 4 of the last cell
    last = shared.cells[-1]
    assert isinstance(last, Cell)
    endings = [last.endings[name] for name in "34"] if precision == "binary" else []
    assert unread == {id(ending.values[-1]) for ending in endings if isinstance(ending, Ending)}
    own = built_network(genotype, precision)
    assert sum(p.numel() for p in own.parameters()) == sum(p.numel() for p in shared.parameters_of(genotype))


def test_the_shared_network_computes_the_network_of_the_genotype() -> None:
    genotype = draw_uniform(seed=4)
    shared = build_network(residual(), precision="binary", num_image_channels=3, num_classes=3, seed=0)
    own = built_network(genotype)
    states = shared.state_dict()
    own.load_state_dict({name: states[name] for name in own.state_dict()})
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(shared.train()(x, genotype).logits, own.train()(x).logits)


# ---------------------------------------------------------------- the stem


@pytest.mark.parametrize(
    ("count", "stride", "expected"),
    [
        (1, 1, [(12, 1)]),
        (1, 2, [(12, 2)]),
        (1, 4, [(12, 4)]),
        (2, 1, [(6, 1), (12, 1)]),
        (2, 2, [(6, 1), (12, 2)]),
        (2, 4, [(6, 2), (12, 2)]),
        (3, 1, [(6, 1), (6, 1), (12, 1)]),
        (3, 2, [(6, 1), (6, 1), (12, 2)]),
        (3, 4, [(6, 1), (6, 2), (12, 2)]),
        (3, 8, [(6, 2), (6, 2), (12, 2)]),
    ],
)
def test_the_convolutions_of_a_stem(count: int, stride: int, expected: list[tuple[int, int]]) -> None:
    network = residual(stem_convolutions=count, stem_stride=stride, stem_multiplier=3)
    assert stem_shapes(network) == expected
    assert stem_kernel_size(network) == (7 if (count, stride) == (1, 4) else 3)


@pytest.mark.parametrize(("count", "stride"), [*itertools.product([1, 2, 3], [1, 2, 4]), (3, 8)])
def test_every_pixel_is_seen_by_the_stem(count: int, stride: int) -> None:
    network = built_network(everywhere("skip_connect"), stem_convolutions=count, stem_stride=stride)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    network.stem.eval()
    network.stem.weight_format = "float32"
    for _, norm in network.stem.pairs():
        norm.exact_evaluation = False
        norm.bias.data.fill_(10)  # no ReLU cuts anything off
    for convolution, _ in network.stem.pairs():
        convolution.exact_evaluation = False
    network.stem(x).sum().backward()
    assert x.grad is not None
    assert (x.grad != 0).all()


@given(num_products=st.integers(1, 40_000))
def test_sums_of_the_largest_steps_are_exact(num_products: int) -> None:
    """All products at their largest: 2^24 is the first whole number behind which float32 leaves one out."""
    for is_image in (True, False):
        largest = largest_step(num_products, is_image=is_image)
        total = largest * 127 * num_products
        assert total < 2**24
        assert int(np.float32(total)) == total
        if largest not in (255,):
            assert (largest + 1) * 127 * num_products >= 2**24


def test_a_convolution_too_large_to_be_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="132105 products per sum"):
        largest_step(132_105, is_image=True)
    assert largest_step(132_104, is_image=True) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_integer_stem_is_a_convolution_of_whole_numbers(count: int) -> None:
    """Evaluation mode once more in numpy: round(64 x), filters of whole steps, round(32 x) of what is positive."""
    network = built_network(everywhere("skip_connect"), stem_convolutions=count, weight_format="int8").eval()
    generator = np.random.default_rng(0)
    for _, norm in network.stem.pairs():
        for tensor, low in ((norm.weight, -1.0), (norm.bias, -1.0), (norm.running_mean, -1.0), (norm.running_var, 0.5)):
            tensor.data.copy_(torch.tensor(generator.uniform(low, 2, len(tensor)).astype(np.float32)))
    x = generator.normal(size=(2, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        found = network.stem(torch.tensor(x)).numpy()
    value = x
    for index, (convolution, norm) in enumerate(network.stem.pairs()):
        steps, largest = (64, 2**24 // (127 * 27)) if index == 0 else (32, 255)
        whole = np.clip(np.rint(np.maximum(value, 0 if index else -np.inf) * np.float32(steps)), -largest, largest)
        weight = convolution.weight.detach().numpy()
        scale = np.abs(weight).max(axis=(1, 2, 3)) / np.float32(127)
        filters = np.rint(weight / scale[:, None, None, None])
        sums = grouped(whole.astype(np.float64), filters.astype(np.float64), stride=1, dilation=1)
        assert (sums == np.rint(sums)).all()
        factor, shift = (tensor.numpy() for tensor in norm.folded())
        value = sums.astype(np.float32) * (scale / np.float32(steps) * factor)[:, None, None] + shift[:, None, None]
    np.testing.assert_array_equal(found, value)


# ---------------------------------------------------------------- values as they are stored

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@MANY
@given(values=st.lists(FLOATS, min_size=1, max_size=20))
def test_a_value_in_float16_is_numpys_within_its_range(values: list[float]) -> None:
    given_values = np.array(values, np.float32)
    expected = np.clip(given_values, -65504, 65504).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(stored(torch.tensor(given_values), "float16").numpy(), expected)
    np.testing.assert_array_equal(stored(torch.tensor(given_values), "float32").numpy(), given_values)


@MANY
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e4]),
    shape=st.sampled_from([(3, 5), (4, 2, 3, 3)]),
)
def test_a_filter_in_int8_is_whole_steps_of_its_largest_weight(seed: int, scale: float, shape: tuple[int, ...]) -> None:
    weight = (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)
    weight[0] = 0
    whole, step = (tensor.numpy() for tensor in stored_filters(torch.tensor(weight), "int8"))
    rows = weight.reshape(len(weight), -1)
    np.testing.assert_array_equal(whole, np.rint(whole))
    assert (np.abs(whole.reshape(rows.shape)).max(axis=1)[1:] == 127).all()
    assert (whole[0] == 0).all()
    assert step[0] == 1
    np.testing.assert_allclose(step[1:], np.abs(rows).max(axis=1)[1:] / 127, rtol=1e-6)
    error = np.abs(whole.reshape(rows.shape) * step[:, None].astype(np.float64) - rows)
    assert (error <= step[:, None] * 0.5001).all()


@pytest.mark.parametrize("weight_format", ["float32", "float16"])
def test_a_filter_in_another_format_has_no_scale(weight_format: str) -> None:
    weight = torch.tensor([[1.0, 1 / 3], [1e6, -1e-9]])
    filters, scale = stored_filters(weight, weight_format)
    expected = [[1.0, np.float16(1 / 3)], [65504, 0]] if weight_format == "float16" else weight.numpy()
    np.testing.assert_array_equal(filters.numpy(), np.array(expected, np.float32))
    assert torch.equal(scale, torch.ones(2))


@pytest.mark.parametrize("weight_format", ["float16", "int8"])
def test_a_classifier_is_trained_as_it_is_and_evaluated_as_it_is_stored(weight_format: str) -> None:
    classifier = Classifier(6, 3)
    classifier.exact_evaluation, classifier.weight_format, classifier.real_format = True, weight_format, "float16"
    x: Tensor = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    weight, bias = classifier.weight.detach().numpy(), classifier.bias.detach().numpy()
    np.testing.assert_allclose(
        classifier.train()(x).detach().numpy(), x.numpy() @ weight.T + bias, rtol=1e-5, atol=1e-6
    )
    if weight_format == "int8":
        step = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
        rounded = np.rint(weight / step) * step.astype(np.float16).astype(np.float32)
    else:
        rounded = weight.astype(np.float16).astype(np.float32)
    expected = x.numpy() @ rounded.T + bias.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(classifier.eval()(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    classifier.keep_as_stored()
    np.testing.assert_allclose(classifier(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


SMALL_OR_NOT: tuple[dict[str, Any], ...] = ({}, {"real_format": "float16", "weight_format": "int8"})


def test_formats_change_neither_weights_nor_training() -> None:
    """They are of evaluation: two networks of a seed train alike."""
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain, small = (built_network(draw_uniform(seed=1), **formats) for formats in SMALL_OR_NOT)
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), small.parameters(), strict=True))
    assert torch.equal(plain.train()(x).logits, small.train()(x).logits)
    assert not torch.equal(plain.eval()(x).logits, small.eval()(x).logits)
    parents = [built_network(draw_uniform(seed=1), "full", weight_format=form).eval() for form in ("float32", "int8")]
    assert torch.equal(parents[0](x).logits, parents[1](x).logits)
    assert network_size(parents[0]) == network_size(parents[1])
    assert network_size(small).size_bits < network_size(plain).size_bits
