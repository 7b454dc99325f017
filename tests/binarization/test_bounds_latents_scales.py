"""Clip bounds, error decay, prepared latent filters, ReCU and learned scales, against formulas in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cpnas_cli.binarization.binarization import LATENTS, SCALES, Binarization, Estimator, Progress
from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.binarization.estimators import binarize_activation
from cpnas_cli.binarization.filters import prepared, recu_factor
from cpnas_cli.binarization.normalized_sign import normalized_sign

MANY = settings(max_examples=100, deadline=None, derandomize=True)
Array = NDArray[np.float64]


def slope_of(values: list[float], estimator: Estimator) -> list[float]:
    x = torch.tensor(values, requires_grad=True)
    binarize_activation(x, estimator=estimator).sum().backward()
    assert x.grad is not None
    return x.grad.tolist()


# ---------------------------------------------------------------- estimators of activations


def next_float32(value: float, towards: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(towards)))


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("bound", [1.0, 1.5, 3.0, 0.5, 10.0, 1.3, 0.1])
def test_a_bound_belongs_to_the_inside_of_the_clip(bound: float, side: int) -> None:
    """As a float32: there the gradient still passes, at the very next number it does not."""
    at, above = float(np.float32(bound)), next_float32(bound, np.inf)
    values = [0.0, next_float32(bound, 0), at, above]
    assert slope_of([side * value for value in values], Estimator("clipped", bound)) == [1, 1, 1, 0]


ULP = 2.0**-23


@MANY
@given(bound=st.floats(2.0**-10, 10))
@example(bound=1 + 0.51 * ULP)
@example(bound=2 - 0.51 * ULP)
def test_any_bound_is_the_nearest_float32(bound: float) -> None:
    at = float(np.float32(bound))
    assert slope_of([at, next_float32(at, np.inf)], Estimator("clipped", bound)) == [1, 0]


@pytest.mark.parametrize("side", [1, -1])
def test_the_polynomial_has_the_height_2_over_bound_and_the_area_2(side: int) -> None:
    for bound in (0.5, 1.0, 1.5, 3.0):
        estimator = Estimator("polynomial", bound)
        found = slope_of([0.0, side * bound / 2, side * bound, side * (bound + 1e-3)], estimator)
        np.testing.assert_allclose(found, [2 / bound, 1 / bound, 0, 0], rtol=1e-6)
        grid = np.linspace(-4, 4, 80001)
        assert np.sum(slope_of(grid.tolist(), estimator)) * 1e-4 == pytest.approx(2, rel=1e-3)


def error_decay(x: Array, progress: float) -> Array:
    """IR-Net's own words: T = T_min 10^(progress log10(T_max / T_min)), k = max(1 / T, 1)."""
    t = 10 ** (np.log10(1e-3) + progress * (np.log10(10) - np.log10(1e-3)))
    return max(1 / t, 1) * t * (1 - np.tanh(t * x) ** 2)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.6, 0.75, 0.9, 1.0])
def test_error_decay_is_the_published_formula(progress: float) -> None:
    x = np.concatenate([[0, -0.0, 1, -1], np.linspace(-5, 5, 201)])
    found = slope_of(x.tolist(), Estimator("error_decay", progress=progress))
    np.testing.assert_allclose(found, error_decay(x, progress), rtol=2e-4, atol=1e-5)


def test_error_decay_at_0_and_1_from_the_first_step_to_the_last() -> None:
    """Everywhere 1 at first, as high as t at last: 10 at 0, and 10 (1 - tanh^2 10) = 8e-8 at 1."""
    assert slope_of([0.0, 1, -1], Estimator("error_decay", progress=0)) == pytest.approx([1, 1, 1], abs=2e-6)
    assert slope_of([0.0, 1, -1], Estimator("error_decay", progress=0.75)) == pytest.approx([1, 0.419974, 0.419974])
    assert slope_of([0.0, 1, -1], Estimator("error_decay", progress=1)) == pytest.approx([10, 0, 0], abs=1e-6)


def test_error_decay_is_the_derivative_of_its_surrogate() -> None:
    """IR-Net approximates the sign by k tanh(t x)."""
    x, step = np.linspace(-3, 3, 61), 1e-6
    for progress, t in ((0.5, 0.1), (0.75, 1.0), (1.0, 10.0)):
        k = max(1 / t, 1)
        differences = (k * np.tanh(t * (x + step)) - k * np.tanh(t * (x - step))) / (2 * step)
        np.testing.assert_allclose(
            slope_of(x.tolist(), Estimator("error_decay", progress=progress)), differences, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize(
    "estimator", [Estimator("clipped", 1.5), Estimator("polynomial", 3.0), Estimator("error_decay", progress=0.8)]
)
def test_the_sign_of_a_batch_norm_has_the_same_gradient(estimator: Estimator) -> None:
    generator = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(6, 5, 4, 3, generator=generator) for _ in range(2))
    weight, bias = torch.rand(5, generator=generator) + 0.5, torch.randn(5, generator=generator)

    def gradients(sign: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        sign(*leaves).backward(gradient)
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    none = {"running_mean": None, "running_var": None, "momentum": 0.0, "eps": 1e-5, "estimator": estimator}
    fused = gradients(lambda x, weight, bias: normalized_sign(x, weight=weight, bias=bias, **none))
    apart = gradients(
        lambda x, weight, bias: binarize_activation(
            torch.nn.functional.batch_norm(x, None, None, weight, bias, True), estimator=estimator
        )
    )
    for own, other in zip(fused, apart, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- filters


def numpy_prepared(latent: Array, latents: str) -> Array:
    centered = latent - latent.mean(axis=(1, 2, 3), keepdims=True)
    variance = np.square(centered).mean(axis=(1, 2, 3), keepdims=True)
    return {"plain": latent.copy(), "centered": centered, "standardized": centered / np.sqrt(variance + 1e-8)}[latents]


def example_filters(*shape: int, seed: int = 0) -> Array:
    """Filters whose means and deviations differ, some taps beyond 1."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * rng.uniform(0.2, 2, (shape[0], 1, 1, 1)) + rng.normal(size=(shape[0], 1, 1, 1))


def layer_of(latent: Array, progress: float = 0.0, **chosen: object) -> BinaryConv2d:
    layer = BinaryConv2d(
        latent.shape[1],
        latent.shape[0],
        latent.shape[2],
        binarization=Binarization(**chosen),  # type: ignore[arg-type]
        progress=Progress(progress),
    )
    layer.weight.data.copy_(torch.from_numpy(latent))
    layer.reset_scale()
    return layer.double()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("latents", LATENTS)
def test_signs_scale_and_forward(latents: str, scale: str) -> None:
    layer = layer_of(example_filters(4, 3, 3, 3), latents=latents, scale=scale)
    latent = layer.weight.detach().numpy()
    made = numpy_prepared(latent, latents)
    alpha = np.abs(made).mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_array_equal(layer.signs().numpy(), np.where(made >= 0, 1, -1))
    np.testing.assert_allclose(layer.scale().numpy(), alpha, rtol=1e-6)
    assert not layer.signs().requires_grad
    assert not layer.scale().requires_grad
    x = torch.from_numpy(np.random.default_rng(1).choice([-1.0, 1.0], (2, 3, 5, 5)))
    sums = torch.nn.functional.conv2d(x, torch.from_numpy(np.where(made >= 0, 1.0, -1.0)))
    np.testing.assert_allclose(layer(x).detach().numpy(), sums.numpy() * alpha.reshape(1, 4, 1, 1), rtol=1e-6)
    np.testing.assert_array_equal(layer.accumulate(x).numpy(), sums.numpy())
    assert [name for name, _ in layer.named_parameters()] == (["weight"] if scale == "mean" else ["weight", "alpha"])


def backward(layer: BinaryConv2d, given: Array) -> None:
    """As if the loss were the sum of given * filters: the input picks each tap once."""
    out_channels, in_channels, size, _ = layer.weight.shape
    taps = in_channels * size * size
    x = torch.eye(taps, dtype=torch.float64).view(taps, in_channels, size, size)
    (layer(x)[:, :, 0, 0].T * torch.from_numpy(given).view(out_channels, taps)).sum().backward()


def through(latent: Array, latents: str, gradient: Array) -> Array:
    """The gradient of H, given that of H', by finite differences of <gradient, H'(H)>."""
    result, step = np.zeros_like(latent), 1e-6
    for index in np.ndindex(*latent.shape):
        moved = latent.copy()
        moved[index] += step
        above = numpy_prepared(moved, latents)
        moved[index] -= 2 * step
        result[index] = ((above - numpy_prepared(moved, latents)) * gradient).sum() / (2 * step)
    return result


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("latents", LATENTS)
def test_gradients_of_the_filters(latents: str, scale: str) -> None:
    """alpha inside the clip, through centring and standardizing; a learned scale: the sum of gradient times sign."""
    layer = layer_of(example_filters(3, 2, 3, 3), latents=latents, scale=scale)
    latent, given_gradient = layer.weight.detach().numpy().copy(), example_filters(3, 2, 3, 3, seed=5)
    if layer.alpha is not None:
        layer.alpha.data.copy_(torch.tensor([0.7, -1.5, 0.0]).view(3, 1, 1, 1))
    alpha, made = layer.scale().numpy().copy(), numpy_prepared(latent, latents)
    backward(layer, given_gradient)
    inside = np.abs(made) <= 1 if latents != "standardized" else np.ones_like(made, bool)
    assert (np.abs(made) > 1).any()
    expected = through(latent, latents, given_gradient * alpha * inside)
    assert layer.weight.grad is not None
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-5, atol=1e-6)
    if layer.alpha is not None:
        assert layer.alpha.grad is not None
        expected = (given_gradient * np.where(made >= 0, 1, -1)).sum(axis=(1, 2, 3), keepdims=True)
        np.testing.assert_allclose(layer.alpha.grad.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.85), (0.5, 0.92), (1.0, 0.99)])
def test_recu_gives_no_gradient_beyond_its_quantile(progress: float, tau: float) -> None:
    layer = layer_of(example_filters(3, 8, 3, 3), progress, latents="standardized", recu=True)
    latent, given_gradient = layer.weight.detach().numpy().copy(), example_filters(3, 8, 3, 3, seed=5)
    made = numpy_prepared(latent, "standardized")
    mean = np.abs(made).mean(axis=(1, 2, 3), keepdims=True)
    bound = -mean * np.log(2 - 2 * tau)
    if progress < 1:
        assert (np.abs(made) > bound).any()
    assert ((np.abs(made) > 1) & (np.abs(made) <= bound)).any() or progress == 0
    backward(layer, given_gradient)
    expected = through(latent, "standardized", given_gradient * mean * (np.abs(made) <= bound))
    assert layer.weight.grad is not None
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.scale().numpy(), mean, rtol=1e-6)  # not that of the clamped ones


def test_recus_bound_is_the_quantile_of_a_laplacian() -> None:
    weights = np.random.default_rng(0).laplace(scale=0.3, size=200_000)
    for progress, tau in ((0.0, 0.85), (1.0, 0.99)):
        bound = recu_factor(progress) * np.abs(weights).mean()
        # the quantile of w, so that 1 - tau lie above it, and as many below its negative
        assert np.mean(weights <= bound) == pytest.approx(tau, abs=2e-3)


def test_a_filter_of_equal_taps_is_finite() -> None:
    for latents in ("centered", "standardized"):
        layer = layer_of(np.full((2, 3, 3, 3), 0.25), latents=latents)
        assert (layer.signs() == 1).all()  # sign(0)
        backward(layer, example_filters(2, 3, 3, 3))
        assert layer.weight.grad is not None
        assert layer.weight.grad.isfinite().all()


def test_a_learned_scale_starts_where_the_mean_is_and_again() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = BinaryConv2d(3, 4, 3, binarization=Binarization(scale="learned"))
    weight = layer.weight.detach().numpy()
    np.testing.assert_allclose(layer.scale().numpy().ravel(), np.abs(weight).mean(axis=(1, 2, 3)), rtol=1e-6)
    layer.weight.data.mul_(3)
    np.testing.assert_allclose(3 * layer.scale().numpy().ravel(), np.abs(weight).mean(axis=(1, 2, 3)), rtol=1e-6)
    layer.reset_scale()
    np.testing.assert_allclose(layer.scale().numpy().ravel(), np.abs(weight).mean(axis=(1, 2, 3)), rtol=1e-6)


def test_a_scale_draws_nothing() -> None:
    """The initial weights of a seed are those without it."""
    drawn = []
    for scale in SCALES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [BinaryConv2d(3, 4, 3, binarization=Binarization(scale=scale)) for _ in range(2)]
        drawn.append(torch.cat([layer.weight.detach() for layer in layers]))
    assert torch.equal(*drawn)


def test_unknown_latents_list_the_choices() -> None:
    with pytest.raises(ValueError, match="unknown latents 'x'; choose from plain, centered, standardized"):
        prepared(torch.zeros(1, 1, 1, 1), latents="x")
