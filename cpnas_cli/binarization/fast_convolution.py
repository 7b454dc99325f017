"""Convolution by the fastest exact path for the device and the shape.

On a CPU oneDNN has fast kernels, in channels_last, for the forward pass of nearly any depthwise
convolution, but for the backward pass only for 3x3 without dilation; the rest falls back to a slow
general path. The same sums can be had from the fast kernels:

* a dilated convolution whose stride and padding are multiples of the dilation d reads every d-th
  pixel only: it is a plain convolution of the thinned image;
* at stride 1 and "same" padding the gradient with respect to the input is a forward convolution of
  the output gradient with the flipped filter;
* the gradient with respect to a dilated filter is that of a plain filter after the d x d phases of
  the image were moved into the batch (space to batch);
* the gradient with respect to a 5x5 filter is that of its four 3x3 corners.

A 1x1 convolution of few pixels is a matrix product, without the set-up of a convolution.
`benchmarks/convolution.py` shows what each of them brings. On other devices
`torch.nn.functional.conv2d` is called as it is.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
        is_depthwise = groups == x_BCHW.shape[1] == weight.shape[0] and groups > 1
        if is_depthwise and weight.shape[-1] in (3, 5):
            return _depthwise(x_BCHW, weight, stride=stride, padding=padding, dilation=dilation)
        if weight.shape[2:] == (1, 1) and stride == groups == 1 and padding == 0 and _num_pixels(x_BCHW) <= _FEW_PIXELS:
            return F.linear(x_BCHW.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)
    return F.conv2d(x_BCHW, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _num_pixels(x_BCHW: Tensor) -> int:
    return x_BCHW.shape[0] * x_BCHW.shape[2] * x_BCHW.shape[3]


def _depthwise(x: Tensor, weight: Tensor, *, stride: int, padding: int, dilation: int) -> Tensor:
    if dilation > 1 and stride % dilation == 0 and padding % dilation == 0:
        thinned = x[:, :, ::dilation, ::dilation].contiguous(memory_format=torch.channels_last)
        return _depthwise(thinned, weight, stride=stride // dilation, padding=padding // dilation, dilation=1)
    if dilation > 1 and stride == 1 and _phases_fit(x, padding, dilation) and min(x.shape[2:]) < padding:
        # wider than the image, where oneDNN leaves its fast path in the forward pass too
        phases = _depthwise(_space_to_batch(x, dilation), weight, stride=1, padding=padding // dilation, dilation=1)
        return _batch_to_space(phases, dilation)
    plain_3x3 = weight.shape[-1] == 3 and dilation == 1
    if plain_3x3 or not torch.is_grad_enabled():
        return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=x.shape[1])
    result = _Depthwise.apply(x, weight, stride, padding, dilation)
    assert isinstance(result, Tensor)
    return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = stride, padding, dilation
        return F.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.shape
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(grad, x, weight, stride=stride, padding=padding, dilation=dilation)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(
                grad, x, kernel_size=weight.shape[-1], stride=stride, padding=padding, dilation=dilation
            )
        return grad_x, grad_weight, None, None, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, *, stride: int, padding: int, dilation: int) -> Tensor:
    if stride == 1 and 2 * padding == dilation * (weight.shape[-1] - 1):
        return F.conv2d(grad, weight.flip(2, 3), padding=padding, dilation=dilation, groups=x.shape[1])
    return _aten_backward(grad, x, weight, stride, padding, dilation, wants_input=True)


def _weight_gradient(grad: Tensor, x: Tensor, *, kernel_size: int, stride: int, padding: int, dilation: int) -> Tensor:
    if dilation > 1 and stride == 1 and _phases_fit(x, padding, dilation) and grad.shape[2:] == x.shape[2:]:
        grad, x = _space_to_batch(grad, dilation), _space_to_batch(x, dilation)
        padding, dilation = padding // dilation, 1
    shape_only = grad.new_empty(1).expand(x.shape[1], 1, kernel_size, kernel_size)
    if kernel_size == 3 or dilation > 1 or stride > 1 or _num_pixels(grad) < _MANY_PIXELS:
        return _aten_backward(grad, x, shape_only, stride, padding, dilation, wants_input=False)
    return _weight_gradient_by_corners(grad, x, padding=padding)


def _weight_gradient_by_corners(grad: Tensor, x: Tensor, *, padding: int) -> Tensor:
    """Of a 5x5 filter: taps (0..2, 0..2), (0..2, 2..4), (2..4, 0..2), (2..4, 2..4), each like a 3x3 filter's."""
    padded = F.pad(x, (padding,) * 4)
    height, width = (size + 2 for size in grad.shape[2:])
    result = grad.new_empty(x.shape[1], 1, 5, 5)
    for row in (0, 2):
        for column in (0, 2):
            corner = result[:, :, row : row + 3, column : column + 3]
            shifted = padded[:, :, row : row + height, column : column + width]
            corner.copy_(_aten_backward(grad, shifted, corner, 1, 0, 1, wants_input=False))
    return result


def _aten_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, *, wants_input: bool
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
        x.shape[1],
        [wants_input, not wants_input, False],
    )
    return grad_x if wants_input else grad_weight


def _phases_fit(x: Tensor, padding: int, dilation: int) -> bool:
    return all(size % dilation == 0 for size in (x.shape[2], x.shape[3], padding))


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
