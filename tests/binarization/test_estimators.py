"""Signs, pseudo-gradients, scales and the 1-bit convolution, against formulas in numpy and loops."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.binarization.estimators import ESTIMATORS, binarize_activation, sign
from cpnas_cli.binarization.filters import binarize_filters, filter_scale
from cpnas_cli.binarization.normalized_sign import normalized_sign

FEW = settings(max_examples=30, deadline=None, derandomize=True)

FLOATS = st.floats(-3, 3, width=32)

ONE = np.float32(1)
BELOW_ONE, ABOVE_ONE = np.nextafter(ONE, np.float32(0)), np.nextafter(ONE, np.float32(2))
TINY = np.finfo(np.float32).smallest_subnormal
# every place where a formula changes, with both neighbours; 17 values, so that no vector width divides them
CRITICAL = np.array(
    [0, -0.0, TINY, -TINY, 0.25, -0.25, 0.5, -0.75, BELOW_ONE, -BELOW_ONE, 1, -1, ABOVE_ONE, -ABOVE_ONE, 2, -7, np.inf],
    dtype=np.float32,
)


def signs(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(x >= 0, 1, -1).astype(np.float32)


def pseudo_gradient(x: NDArray[np.float32], estimator: str) -> NDArray[np.float32]:
    """With the bound 1, before the first step."""
    inside = np.abs(x) <= 1
    if estimator == "error_decay":  # t = 0.001, k t = 1
        return (1 - np.tanh(0.001 * x.astype(np.float64)) ** 2).astype(np.float32)
    slope = {"clipped": np.ones_like(x), "polynomial": 2 - 2 * np.abs(x)}[estimator]
    return np.where(inside, slope, 0).astype(np.float32)


def images(values: NDArray[np.float32], *, channels_last: bool) -> Tensor:
    """The values, again and again, as a batch of 2 with 3 channels and 17 x 5 pixels."""
    x = torch.from_numpy(np.resize(values, (2, 3, 17, 5)).copy())
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


LAYOUTS = pytest.mark.parametrize("channels_last", [False, True])


# ---------------------------------------------------------------- the sign of activations


def test_sign_at_the_edges() -> None:
    x = torch.tensor([0.0, -0.0, TINY.item(), -TINY.item(), float("inf"), -float("inf"), float("nan"), 0.0, -3.0])
    assert sign(x).tolist() == [1, 1, 1, -1, 1, -1, -1, 1, -1]


@LAYOUTS
def test_sign_keeps_shape_type_and_layout(channels_last: bool) -> None:
    x = images(CRITICAL, channels_last=channels_last)
    before = x.clone()
    result = sign(x)
    np.testing.assert_array_equal(result.numpy(), signs(x.numpy()))
    assert result.stride() == x.stride()
    assert torch.equal(x, before)
    assert sign(x.double()).dtype == torch.float64


@LAYOUTS
@pytest.mark.parametrize("estimator", ["clipped", "polynomial"])
def test_estimators_at_the_edges(estimator: str, channels_last: bool) -> None:
    x = images(CRITICAL, channels_last=channels_last).requires_grad_()
    result = binarize_activation(x, estimator=Estimator(estimator))
    values = x.detach().numpy()
    np.testing.assert_array_equal(result.detach().numpy(), signs(values))
    given_gradient = np.random.default_rng(0).normal(size=values.shape).astype(np.float32)
    result.backward(torch.from_numpy(given_gradient))
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), given_gradient * pseudo_gradient(values, estimator))


def test_estimators_where_they_are_stated() -> None:
    """In words: at 0, just inside 1, at 1 and just outside."""
    for estimator, expected in {"clipped": [1, 1, 1, 0], "polynomial": [2, 2**-23, 0, 0]}.items():
        for factor in (1.0, -1.0):
            x = torch.tensor([0.0, BELOW_ONE.item(), 1.0, ABOVE_ONE.item()]).mul(factor).requires_grad_()
            binarize_activation(x, estimator=Estimator(estimator)).sum().backward()
            assert x.grad is not None
            assert x.grad.tolist() == expected
    assert ESTIMATORS == ("clipped", "polynomial", "error_decay")


@FEW
@given(values=st.lists(FLOATS, min_size=1, max_size=40), estimator=st.sampled_from(ESTIMATORS))
def test_estimators_anywhere(values: list[float], estimator: str) -> None:
    x = torch.tensor(values, requires_grad=True)
    result = binarize_activation(x, estimator=Estimator(estimator))
    result.backward(torch.arange(1.0, len(values) + 1))
    plain = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(result.detach().numpy(), signs(plain))
    assert x.grad is not None
    expected = np.arange(1, len(values) + 1, dtype=np.float32) * pseudo_gradient(plain, estimator)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_gradient_of_another_layout() -> None:
    """What comes back from the next layer need not lie in memory as the input does."""
    x = images(CRITICAL, channels_last=True).requires_grad_()
    given_gradient = torch.randn(2, 3, 17, 5, generator=torch.Generator().manual_seed(0))
    for estimator in ESTIMATORS:
        x.grad = None
        binarize_activation(x, estimator=Estimator(estimator)).backward(given_gradient)
        assert x.grad is not None
        expected = given_gradient.numpy() * pseudo_gradient(x.detach().numpy(), estimator)
        np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-6 if estimator == "error_decay" else 0, atol=0)


def test_an_unknown_estimator_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown estimator 'tanh'; choose from clipped, polynomial, error_decay"):
        binarize_activation(torch.zeros(1), estimator=Estimator("tanh"))


# ---------------------------------------------------------------- filters


@FEW
@given(taps=st.lists(st.floats(-2, 2, width=16), min_size=1, max_size=5))
def test_alpha_sign_is_the_best_reconstruction(taps: list[float]) -> None:
    """Over all patterns of signs, each with its best scale, nothing comes closer to H."""
    latent = np.array(taps)
    best = min(
        np.square(latent - max(scale, 0) * np.array(pattern)).sum()
        for pattern in itertools.product((-1, 1), repeat=len(taps))
        for scale in [np.linalg.lstsq(np.array(pattern)[:, None], latent, rcond=None)[0][0]]
    )
    reconstruction = binarize_filters(torch.tensor(taps, dtype=torch.float64).view(1, -1, 1, 1)).flatten().numpy()
    assert np.square(latent - reconstruction).sum() == pytest.approx(best, abs=1e-9)


def test_alpha_is_the_minimum_on_a_grid() -> None:
    latent = torch.randn(3, 5, 3, 3, generator=torch.Generator().manual_seed(1))
    grid = np.linspace(0, 2, 20001)
    scales = filter_scale(latent)
    assert scales.shape == (3, 1, 1, 1)
    for taps, scale in zip(latent.flatten(1).double().numpy(), scales.flatten().tolist(), strict=True):
        # ||H - a B||^2 = ||H||^2 - 2 a <H, B> + a^2 n
        errors = np.square(taps).sum() - 2 * grid * (taps * np.sign(taps)).sum() + grid**2 * taps.size
        assert scale == pytest.approx(grid[errors.argmin()], abs=1e-4)


def example_filters() -> NDArray[np.float32]:
    """One filter with the edges of the formulas, one with random taps, one all zero, one negative."""
    filters = np.zeros((4, 2, 3, 3), dtype=np.float32)
    filters[0] = np.resize(CRITICAL[:16], (2, 3, 3))
    filters[1] = np.random.default_rng(2).normal(size=(2, 3, 3))
    filters[3] = -0.5
    return filters


@LAYOUTS
def test_binarized_filters_forward_and_backward(channels_last: bool) -> None:
    filters = example_filters()
    latent = torch.from_numpy(filters)
    if channels_last:
        latent = latent.contiguous(memory_format=torch.channels_last)
    latent.requires_grad_()
    result = binarize_filters(latent)
    alpha = np.abs(filters).mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(result.detach().numpy(), alpha * signs(filters), rtol=1e-6)
    given_gradient = np.random.default_rng(3).normal(size=filters.shape).astype(np.float32)
    result.backward(torch.from_numpy(given_gradient))
    assert latent.grad is not None
    expected = given_gradient * alpha * (np.abs(filters) <= 1)
    np.testing.assert_allclose(latent.grad.numpy(), expected, rtol=1e-6, atol=0)
    assert (latent.grad[0].flatten()[[10, 11]] != 0).all()  # +1 and -1 themselves
    assert (latent.grad[0].flatten()[[12, 13]] == 0).all()  # the next numbers outside


def test_binarized_filters_leave_the_latent_ones() -> None:
    latent = torch.from_numpy(example_filters()).requires_grad_()
    binarize_filters(latent).sum().backward()
    np.testing.assert_array_equal(latent.detach().numpy(), example_filters())


# ---------------------------------------------------------------- the 1-bit convolution


def convolution_by_loops(
    x: NDArray[np.float64], weight: NDArray[np.float64], *, stride: int, padding: int, dilation: int, groups: int
) -> NDArray[np.float64]:
    batch, _, height, width = x.shape
    out_channels, group_size, kernel_size, _ = weight.shape
    reach = dilation * (kernel_size - 1) + 1
    sizes = [(size + 2 * padding - reach) // stride + 1 for size in (height, width)]
    result = np.zeros((batch, out_channels, *sizes))
    for image, out, row, column in np.ndindex(*result.shape):
        first = out // (out_channels // groups) * group_size
        for channel, i, j in np.ndindex(group_size, kernel_size, kernel_size):
            y, z = row * stride - padding + i * dilation, column * stride - padding + j * dilation
            if 0 <= y < height and 0 <= z < width:  # what lies outside is 0, neither +1 nor -1
                result[image, out, row, column] += weight[out, channel, i, j] * x[image, first + channel, y, z]
    return result


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "groups", "kernel_size", "stride", "padding", "dilation", "size"),
    [
        (3, 3, 3, 3, 1, 1, 1, (5, 4)),
        (3, 3, 3, 3, 2, 1, 1, (5, 4)),
        (3, 3, 3, 5, 1, 2, 1, (5, 4)),
        (3, 3, 3, 3, 1, 2, 2, (4, 6)),
        (3, 3, 3, 5, 1, 4, 2, (4, 4)),
        (3, 3, 3, 5, 2, 4, 2, (5, 4)),
        (3, 3, 3, 5, 1, 4, 2, (1, 1)),
        (5, 7, 1, 1, 1, 0, 1, (3, 3)),
        (3, 5, 1, 3, 2, 1, 1, (4, 4)),
        (6, 3, 3, 3, 1, 1, 1, (3, 3)),
        (1, 1, 1, 3, 1, 1, 1, (1, 2)),
    ],
)
def test_binary_convolution_by_loops(
    in_channels: int,
    out_channels: int,
    groups: int,
    kernel_size: int,
    stride: int,
    padding: int,
    dilation: int,
    size: tuple[int, int],
) -> None:
    """With weights +alpha and -alpha, and a third value, zero, where the padding is."""
    shape: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(kernel_size + stride)
        layer = BinaryConv2d(in_channels, out_channels, kernel_size, **shape)
        x = binarize_activation(torch.randn(2, in_channels, *size), estimator=Estimator("clipped"))
    latent = layer.weight.detach().double().numpy()
    alpha = np.abs(latent).mean(axis=(1, 2, 3), keepdims=True)
    expected = convolution_by_loops(x.double().numpy(), np.where(latent >= 0, alpha, -alpha), **shape)
    for layout in (torch.contiguous_format, torch.channels_last):
        np.testing.assert_allclose(
            layer(x.contiguous(memory_format=layout)).detach().numpy(), expected, rtol=0, atol=1e-5
        )


def test_padding_counts_as_nothing() -> None:
    """A constant image under a 3x3 filter of ones: the corner sees 4 pixels, the border 6, the middle 9."""
    layer = BinaryConv2d(1, 1, 3, padding=1)
    torch.nn.init.constant_(layer.weight, 0.5)
    result = layer(torch.ones(1, 1, 3, 3))
    assert result[0, 0].tolist() == [[2.0, 3.0, 2.0], [3.0, 4.5, 3.0], [2.0, 3.0, 2.0]]


def test_gradients_of_the_binary_convolution() -> None:
    """To the latent filters through the scale and the clip; to the input through the scaled signs."""
    layer = BinaryConv2d(3, 3, 1, groups=3)
    latent = torch.tensor([0.5, -2.0, 1.0])
    layer.weight.data.copy_(latent.view(3, 1, 1, 1))
    x = torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert x.grad.flatten().tolist() == [0.5, -2.0, 1.0]
    assert layer.weight.grad.flatten().tolist() == [0.5, 0.0, 1.0]  # x * alpha where |H| <= 1


def test_initial_filters_have_the_deviation_of_a_sign() -> None:
    """1 / sqrt(fan-in), and the fan-in of a grouped convolution is that of a group."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = BinaryConv2d(40, 400, 5, groups=10)
    assert layer.weight.shape == (400, 4, 5, 5)
    assert layer.weight.std().item() == pytest.approx(1 / np.sqrt(4 * 25), rel=0.02)
    assert layer.weight.mean().item() == pytest.approx(0, abs=2e-3)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]  # no bias


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("with_running", [True, False])
def test_the_sign_of_a_batch_norm_in_one_function_is_that_of_two(estimator: str, with_running: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 5, 4, 3, generator=generator).to(memory_format=torch.channels_last)
    weight, bias = torch.rand(5, generator=generator) + 0.5, torch.randn(5, generator=generator)
    gradient = torch.randn(6, 5, 4, 3, generator=generator)

    def run(*, fused: bool) -> list[torch.Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        mean, var = (torch.zeros(5), torch.ones(5)) if with_running else (None, None)
        if fused:
            result = normalized_sign(
                leaves[0],
                weight=leaves[1],
                bias=leaves[2],
                running_mean=mean,
                running_var=var,
                momentum=0.3,
                eps=1e-5,
                estimator=Estimator(estimator),
            )
        else:
            normalized = torch.nn.functional.batch_norm(leaves[0], mean, var, leaves[1], leaves[2], True, 0.3)
            result = binarize_activation(normalized, estimator=Estimator(estimator))
        result.backward(gradient)
        tensors = [result, *(leaf.grad for leaf in leaves), mean, var]
        return [tensor for tensor in tensors if tensor is not None]

    for ours, reference in zip(run(fused=True), run(fused=False), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)


def test_the_sign_of_a_batch_norm_keeps_nothing_more_than_the_batch_norm() -> None:
    x = torch.randn(4, 8, 6, 6, requires_grad=True)
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        normalized_sign(
            x,
            weight=torch.ones(8),
            bias=torch.zeros(8),
            running_mean=None,
            running_var=None,
            momentum=0.0,
            eps=1e-5,
            estimator=Estimator("clipped"),
        )
    large = {tensor.data_ptr() for tensor in saved if tensor.numel() == x.numel()}
    assert large == {x.data_ptr()}
