"""Every path of `convolve`, forward and both gradients, against conv2d in float64.

The numbers are small integers, so that all sums are exact in float32 in any order: one pixel too many
or too few, at an edge of the image for instance, is off by 1 or more.
"""

import itertools
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.binarization import fast_convolution as convolution
from cpnas_cli.binarization.fast_convolution import convolve

SIZES = [(1, 1), (2, 2), (7, 7), (8, 8), (5, 6), (4, 3), (2, 5)]


@dataclass(frozen=True)
class Channels:
    """Of a convolution; every number of channels is odd somewhere."""

    in_channels: int
    out_channels: int
    groups: int


DENSE = Channels(3, 5, 1)
GROUPED = Channels(6, 9, 3)
DEPTHWISE = Channels(5, 5, 5)
WIDER = Channels(3, 6, 3)  # one input channel a group, but two filters: not depthwise
SINGLE = Channels(1, 1, 1)
KINDS = {"dense": DENSE, "grouped": GROUPED, "depthwise": DEPTHWISE, "wider": WIDER, "single": SINGLE}


def integers(*shape: int, seed: int, largest: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).float()


def conv2d(x: Tensor, weight: Tensor, *, stride: int, padding: int, dilation: int, groups: int) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, dilation, groups)


def check_against_conv2d(
    channels: Channels,
    *,
    size: tuple[int, int],
    kernel_size: int,
    stride: int,
    padding: int,
    dilation: int,
    batch: int = 2,
    wants: tuple[bool, bool] = (True, True),
    channels_last: bool = True,
) -> None:
    x = integers(batch, channels.in_channels, *size, seed=1)
    weight = integers(channels.out_channels, channels.in_channels // channels.groups, kernel_size, kernel_size, seed=2)
    reference_x, reference_weight = x.double().requires_grad_(wants[0]), weight.double().requires_grad_(wants[1])
    if channels_last:
        x, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, weight))
    before = x.clone(), weight.clone()
    x.requires_grad_(wants[0])
    weight.requires_grad_(wants[1])
    shape = {"stride": stride, "padding": padding, "dilation": dilation, "groups": channels.groups}

    expected = conv2d(reference_x, reference_weight, **shape)
    result = convolve(x, weight, **shape)
    assert result.shape == expected.shape
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(convolve(x, weight, **shape).double(), expected, rtol=0, atol=1e-3)

    if any(wants):
        gradient = integers(*expected.shape, seed=3)
        expected.backward(gradient.double())
        result.backward(gradient)
    for tensor, reference in ((x, reference_x), (weight, reference_weight)):
        assert (tensor.grad is None) == (reference.grad is None)
        if tensor.grad is not None and reference.grad is not None:
            torch.testing.assert_close(tensor.grad.double(), reference.grad, rtol=0, atol=1e-3)
    assert torch.equal(x, before[0])
    assert torch.equal(weight, before[1])


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", KINDS)
def test_same_padding(kind: str, size: tuple[int, int]) -> None:
    """The convolutions of the search space and their neighbours, in both layouts, one image and several."""
    for kernel_size, dilation, stride in itertools.product((1, 3, 5), (1, 2), (1, 2)):
        for batch, channels_last in ((1, True), (3, True), (2, False)):
            check_against_conv2d(
                KINDS[kind],
                size=size,
                kernel_size=kernel_size,
                stride=stride,
                padding=dilation * (kernel_size - 1) // 2,
                dilation=dilation,
                batch=batch,
                channels_last=channels_last,
            )


@pytest.mark.parametrize("padding", [0, 1, 2, 3, 4, 6])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("kind", ["depthwise", "grouped"])
def test_other_paddings_strides_and_dilations(kind: str, kernel_size: int, padding: int) -> None:
    """Each of the shortcuts must see when it does not apply."""
    num_checked = 0
    for dilation, stride, size in itertools.product((1, 2, 3), (1, 2, 3, 4, 6), ((3, 3), (6, 4), (9, 12), (10, 7))):
        if min(size) + 2 * padding < dilation * (kernel_size - 1) + 1:
            continue  # no output at all
        check_against_conv2d(
            KINDS[kind], size=size, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
        )
        num_checked += 1
    assert num_checked >= 10


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_many_pixels(padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a 5x5 filter by its corners, where there are many pixels."""
    calls = []
    by_corners = convolution._weight_gradient_by_corners

    def spy(grad: Tensor, x: Tensor, *, padding: int) -> Tensor:
        calls.append(grad.shape)
        return by_corners(grad, x, padding=padding)

    monkeypatch.setattr(convolution, "_weight_gradient_by_corners", spy)
    check_against_conv2d(
        Channels(3, 3, 3), size=(16, 18), kernel_size=5, stride=1, padding=padding, dilation=1, batch=99
    )
    assert len(calls) == 1
    # of a dilated one, after its phases were moved into the batch
    check_against_conv2d(Channels(3, 3, 3), size=(16, 18), kernel_size=5, stride=1, padding=4, dilation=2, batch=64)
    assert len(calls) == 2


@pytest.mark.parametrize(("size", "is_far"), [(8, True), (7, True), (9, False), (16, False)])
def test_a_dilated_filter_that_reaches_far(size: int, is_far: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a grouped one by its phases, where it reaches beyond the middle of the image."""
    calls = []
    by_phases = convolution._space_to_batch

    def spy(x: Tensor, size: int) -> Tensor:
        calls.append(x.shape[2:])
        return by_phases(x, size)

    monkeypatch.setattr(convolution, "_space_to_batch", spy)
    check_against_conv2d(GROUPED, size=(size, size), kernel_size=5, stride=1, padding=4, dilation=2)
    assert calls == ([(8, 8)] * 2 if is_far else []), "gradient and image, their sizes even"


def test_many_pixels_of_a_pointwise_convolution() -> None:
    """More than a matrix product is used for."""
    check_against_conv2d(DENSE, size=(33, 32), kernel_size=1, stride=1, padding=0, dilation=1, batch=4)


@pytest.mark.parametrize("wants", [(True, False), (False, True), (False, False)])
def test_only_the_gradients_that_are_wanted(wants: tuple[bool, bool]) -> None:
    for kind, kernel_size, dilation, stride in itertools.product(("dense", "depthwise"), (1, 5), (1, 2), (1, 2)):
        check_against_conv2d(
            KINDS[kind],
            size=(6, 6),
            kernel_size=kernel_size,
            stride=stride,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            wants=wants,
        )


def test_an_image_that_is_a_view() -> None:
    """Every second pixel of a larger one, as a factorized reduction reads it."""
    large = integers(2, 3, 12, 14, seed=4)
    for kernel_size, groups in ((1, 1), (3, 3), (5, 3)):
        weight = integers(3, 3 // groups, kernel_size, kernel_size, seed=5)
        shape = {"stride": 1, "padding": kernel_size // 2, "dilation": 1, "groups": groups}
        x, reference = large[:, :, ::2, 1::2].requires_grad_(), large[:, :, ::2, 1::2].double().requires_grad_()
        result, expected = convolve(x, weight, **shape), conv2d(reference, weight.double(), **shape)
        torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-3)
        gradient = integers(*expected.shape, seed=6)
        result.backward(gradient.transpose(2, 3).contiguous().transpose(2, 3))
        expected.backward(gradient.double())
        assert x.grad is not None
        assert reference.grad is not None
        torch.testing.assert_close(x.grad.double(), reference.grad, rtol=0, atol=1e-3)


def test_real_numbers_to_float_rounding() -> None:
    """And not only integers: the 5x5 dilated one, which takes the longest way round."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(3, 5, 8, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 1, 5, 5, generator=generator, dtype=torch.float64)
    shape = {"stride": 1, "padding": 4, "dilation": 2, "groups": 5}
    gradients = []
    for dtype, function in ((torch.float32, convolve), (torch.float64, conv2d)):
        leaves = [tensor.to(dtype).detach().requires_grad_() for tensor in (x, weight)]
        result = function(leaves[0], leaves[1], **shape)
        gradients.append([result, *torch.autograd.grad(result.square().sum(), leaves)])
    for tensor, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(tensor.double(), reference, rtol=1e-4, atol=1e-3)
