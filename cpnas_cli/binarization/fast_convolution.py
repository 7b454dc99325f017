"""Convolution by the fastest exact path for the device and the shape.

On a CPU oneDNN has fast kernels, in channels_last, for the forward pass of nearly any convolution, but not for every
gradient; the rest falls back to a slow general path: depthwise all but 3x3 without dilation, else the gradient of a
dilated filter that reaches beyond the middle of the image. The same sums can be had from the fast kernels:

* a dilated convolution whose stride and padding are multiples of the dilation d reads every d-th
  pixel only: it is a plain convolution of the thinned image;
* at stride 1 and "same" padding the gradient with respect to the input of a depthwise one is a forward convolution of
  the output gradient with the flipped filter;
* the gradient with respect to a dilated filter is that of a plain filter after the d x d phases of
  the image were moved into the batch (space to batch);
* the gradient with respect to a depthwise 5x5 filter is that of its four 3x3 corners.

A 1x1 convolution of few pixels is a matrix product, without the set-up of a convolution.
`benchmarks/convolution.py` shows what each of them brings. On other devices
`torch.nn.functional.conv2d` is called as it is.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cpnas_cli.binarization.thinning import thinned

# Measured: below this many pixels (B * H * W) the set-up of a 1x1 convolution outweighs its work.
_FEW_PIXELS = 4096
# Measured: from this many pixels on, four 3x3 corners are faster than one 5x5 filter gradient.
_MANY_PIXELS = 16384


def convolve(x_BCHW: Tensor, weight: Tensor, *, stride: int, padding: int, dilation: int, groups: int) -> Tensor:
    """`torch.nn.functional.conv2d` without bias.

    Args:
      x_BCHW: input, (B, C, H, W).
      weight: (C_out, C / groups, k, k).

    Returns (B, C_out, H', W'), equal to conv2d's up to float rounding.
    """
    if x_BCHW.device.type == "cpu":
        if torch.is_autocast_enabled("cpu"):
            # by hand: a gradient of ours is no operation that autocast knows
            dtype = torch.get_autocast_dtype("cpu")
            x_BCHW, weight = x_BCHW.to(dtype), weight.to(dtype)
        if dilation > 1 and stride % dilation == 0 and padding % dilation == 0:
            (x_BCHW,) = thinned(x_BCHW, dilation)
            stride, padding, dilation = stride // dilation, padding // dilation, 1
        if _is_depthwise(weight, groups) and weight.shape[-1] in (3, 5):
            return _depthwise(x_BCHW, weight, stride=stride, padding=padding, dilation=dilation)
        if weight.shape[2:] == (1, 1) and stride == groups == 1 and padding == 0 and _num_pixels(x_BCHW) <= _FEW_PIXELS:
            return F.linear(x_BCHW.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)
        if torch.is_grad_enabled() and _is_wide(x_BCHW, padding) and _has_phases(stride, padding, dilation):
            return _with_fast_gradients(x_BCHW, weight, stride, padding, dilation, groups)
    return F.conv2d(x_BCHW, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _num_pixels(x_BCHW: Tensor) -> int:
    return x_BCHW.shape[0] * x_BCHW.shape[2] * x_BCHW.shape[3]


def _is_depthwise(weight: Tensor, groups: int) -> bool:
    return groups > 1 and weight.shape[:2] == (groups, 1)


def _is_wide(x_BCHW: Tensor, padding: int) -> bool:
    """Whether a "same" filter reaches beyond the middle of the image, where oneDNN leaves its fast path; measured."""
    return 2 * padding >= min(x_BCHW.shape[2:])


def _has_phases(stride: int, padding: int, dilation: int) -> bool:
    """Whether the convolution is a plain one of the phases of the image."""
    return dilation > 1 and stride == 1 and padding % dilation == 0


def _depthwise(x: Tensor, weight: Tensor, *, stride: int, padding: int, dilation: int) -> Tensor:
    divides = all(size % dilation == 0 for size in x.shape[2:])
    if _has_phases(stride, padding, dilation) and divides and min(x.shape[2:]) < padding:
        # wider than the image, where oneDNN leaves its fast path in the forward pass too
        phases = _depthwise(_space_to_batch(x, dilation), weight, stride=1, padding=padding // dilation, dilation=1)
        return _batch_to_space(phases, dilation)
    plain_3x3 = weight.shape[-1] == 3 and dilation == 1
    if plain_3x3 or not torch.is_grad_enabled():
        return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=x.shape[1])
    return _with_fast_gradients(x, weight, stride, padding, dilation, x.shape[1])


def _with_fast_gradients(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int) -> Tensor:
    result = _FastGradients.apply(x, weight, stride, padding, dilation, groups)
    assert isinstance(result, Tensor)
    return result


class _FastGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = stride, padding, dilation, groups
        return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(grad, x, weight, *ctx.shape)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grad, x, weight, *ctx.shape)
        return grad_x, grad_weight, None, None, None, None


def _input_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    if _is_depthwise(weight, groups) and stride == 1 and 2 * padding == dilation * (weight.shape[-1] - 1):
        return F.conv2d(grad, weight.flip(2, 3), padding=padding, dilation=dilation, groups=groups)
    return _aten_backward(grad, x, weight, stride, padding, dilation, groups, wants_input=True)


def _weight_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    if _has_phases(stride, padding, dilation) and grad.shape[2:] == x.shape[2:]:
        grad, x = (_space_to_batch(_padded_to_phases(each, dilation), dilation) for each in (grad, x))
        padding, dilation = padding // dilation, 1
    is_plain_5x5 = weight.shape[-1] == 5 and dilation == stride == 1
    if is_plain_5x5 and _is_depthwise(weight, groups) and _num_pixels(grad) >= _MANY_PIXELS:
        return _weight_gradient_by_corners(grad, x, padding=padding)
    return _aten_backward(grad, x, weight, stride, padding, dilation, groups, wants_input=False)


def _weight_gradient_by_corners(grad: Tensor, x: Tensor, *, padding: int) -> Tensor:
    """Of a 5x5 filter: taps (0..2, 0..2), (0..2, 2..4), (2..4, 0..2), (2..4, 2..4), each like a 3x3 filter's."""
    padded = F.pad(x, (padding,) * 4)
    height, width = (size + 2 for size in grad.shape[2:])
    result = grad.new_empty(x.shape[1], 1, 5, 5)
    for row in (0, 2):
        for column in (0, 2):
            corner = result[:, :, row : row + 3, column : column + 3]
            shifted = padded[:, :, row : row + height, column : column + width]
            corner.copy_(_aten_backward(grad, shifted, corner, 1, 0, 1, x.shape[1], wants_input=False))
    return result


def _aten_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    *,
    wants_input: bool,
) -> Tensor:
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [dilation, dilation],
        False,
        [0, 0],
        groups,
        [wants_input, not wants_input, False],
    )
    return grad_x if wants_input else grad_weight


def _padded_to_phases(x_BCHW: Tensor, size: int) -> Tensor:
    """With zeros below and to the right, so that height and width are multiples of the size: to a gradient with respect
    to filters they add nothing."""
    height, width = x_BCHW.shape[2:]
    return F.pad(x_BCHW, (0, -width % size, 0, -height % size)) if height % size or width % size else x_BCHW


def _space_to_batch(x_BCHW: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (size * size * B, C, H / size, W / size), channels_last."""
    batch, channels, height, width = x_BCHW.shape
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    phases = x_BHWC.reshape(batch, height // size, size, width // size, size, channels).permute(2, 4, 0, 1, 3, 5)
    return phases.reshape(size * size * batch, height // size, width // size, channels).permute(0, 3, 1, 2)


def _batch_to_space(x_BCHW: Tensor, size: int) -> Tensor:
    """The reverse of `_space_to_batch`."""
    batch, channels, height, width = x_BCHW.shape
    phases = x_BCHW.permute(0, 2, 3, 1).reshape(size, size, batch // size**2, height, width, channels)
    x_BHWC = phases.permute(2, 3, 0, 4, 1, 5).reshape(batch // size**2, height * size, width * size, channels)
    return x_BHWC.permute(0, 3, 1, 2)


class Convolution2d(nn.Module):
    """The filters and the shape of a convolution without bias; a derived class says how both are used.

    Attributes:
      weight: (C_out, C_in / groups, k, k).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.reset_parameters()

    @property
    def fan_in(self) -> int:
        """The values that one filter reads."""
        return self.weight[0].numel()

    def reset_parameters(self) -> None:
        """Draw the filters from torch's global generator."""
        raise RuntimeError("each convolution draws its own filters")

    def convolve(self, x_BCHW: Tensor, weight: Tensor) -> Tensor:
        """The input convolved with these filters, in this shape."""
        return convolve(
            x_BCHW, weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
