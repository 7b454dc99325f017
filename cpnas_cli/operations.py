"""The candidate operations of an edge, in Child (1-bit) and Parent (full) precision.

Every operation reads a `Node`, which computes the sign or the ReLU of its value once, however many
edges read it. A stride of 2 halves the image; the number of channels stays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.binarize import BinaryConv2d, binarize_activation
from cpnas_cli.convolution import convolve
from cpnas_cli.space import NONE, OPERATIONS

Precision = Literal["binary", "full"]


class Node:
    """The value of a node of a cell, with its activations, each computed when first read."""

    def __init__(self, value_BCHW: Tensor) -> None:
        self.value = value_BCHW
        self._signs: dict[str, Tensor] = {}
        self._rectified: Tensor | None = None

    def sign(self, estimator: str) -> Tensor:
        if estimator not in self._signs:
            self._signs[estimator] = binarize_activation(self.value, estimator=estimator)
        return self._signs[estimator]

    def rectified(self) -> Tensor:
        if self._rectified is None:
            self._rectified = F.relu(self.value)
        return self._rectified


@dataclass(frozen=True)
class Arithmetic:
    """The precision of a network's convolutions: which kind, and the activation that goes with it."""

    precision: Precision
    estimator: str = "clipped"

    def activate(self, node: Node) -> Tensor:
        """sign(x) before a 1-bit convolution, ReLU(x) before a full-precision one."""
        return node.sign(self.estimator) if self.precision == "binary" else node.rectified()

    def convolution(self, in_channels: int, out_channels: int, kernel_size: int, **shape: int) -> nn.Module:
        """A convolution without bias; `shape` holds stride, padding, dilation, groups."""
        kind = BinaryConv2d if self.precision == "binary" else RealConv2d
        return kind(in_channels, out_channels, kernel_size, **shape)


FULL = Arithmetic("full")


class RealConv2d(nn.Module):
    """A full-precision convolution without bias."""

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
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))  # He et al. 2015, for ReLU

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return convolve(
            x_BCHW, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )


class BatchNorm(nn.Module):
    """Batch normalization whose running statistics are kept only where they are wanted.

    Modes of `statistics`:
      "running": an exponential mean over training batches, for evaluation (a network that is trained).
      "none": training uses the batch's own statistics and keeps nothing (the shared networks).
      "collect": like training, and the plain mean over the batches since `start_collecting` is kept.
    In evaluation mode the kept statistics are used, whatever produced them.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.momentum, self.eps = momentum, eps
        self.statistics: Literal["running", "none", "collect"] = "running"
        self._num_collected = 0

    def start_collecting(self) -> None:
        self.statistics = "collect"
        self._num_collected = 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x_BCHW, self.running_mean, self.running_var, self.weight, self.bias, False, 0, self.eps)
        if self.statistics == "none":
            return F.batch_norm(x_BCHW, None, None, self.weight, self.bias, True, 0, self.eps)
        momentum = self.momentum
        if self.statistics == "collect":
            self._num_collected += 1
            momentum = 1 / self._num_collected
        return F.batch_norm(
            x_BCHW, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps
        )


class SeparableConv(nn.Module):
    """A depthwise separable convolution, optionally dilated.

    Child: sign, 1-bit depthwise, batch norm, sign, 1-bit 1x1, batch norm; the sign at the input of
    each convolution is the non-linearity. Parent: ReLU, depthwise, 1x1, batch norm.
    One block, not the two in a row of DARTS (ours).
    """

    def __init__(
        self, num_channels: int, kernel_size: int, *, stride: int, dilation: int, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.depthwise = arithmetic.convolution(
            num_channels,
            num_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            groups=num_channels,
        )
        self.between = BatchNorm(num_channels) if arithmetic.precision == "binary" else None
        self.pointwise = arithmetic.convolution(num_channels, num_channels, 1)
        self.norm = BatchNorm(num_channels)

    def forward(self, node: Node) -> Tensor:
        x_BCHW = self.depthwise(self.arithmetic.activate(node))
        if self.between is not None:
            x_BCHW = binarize_activation(self.between(x_BCHW), estimator=self.arithmetic.estimator)
        return self.norm(self.pointwise(x_BCHW))


class PointwiseConv(nn.Module):
    """A 1x1 convolution: activation, 1x1, batch norm. The preprocessing of a cell's input."""

    def __init__(self, in_channels: int, out_channels: int, *, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.pointwise = arithmetic.convolution(in_channels, out_channels, 1)
        self.norm = BatchNorm(out_channels)

    def forward(self, node: Node) -> Tensor:
        return self.norm(self.pointwise(self.arithmetic.activate(node)))


class FactorizedReduction(nn.Module):
    """Halves the image: two 1x1 convolutions, over the even and the odd pixels, side by side."""

    def __init__(self, in_channels: int, out_channels: int, *, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.even = arithmetic.convolution(in_channels, out_channels // 2, 1)
        self.odd = arithmetic.convolution(in_channels, out_channels - out_channels // 2, 1)
        self.norm = BatchNorm(out_channels)

    def forward(self, node: Node) -> Tensor:
        x_BCHW = self.arithmetic.activate(node)
        even = self.even(x_BCHW[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last))
        odd = self.odd(x_BCHW[:, :, 1::2, 1::2].contiguous(memory_format=torch.channels_last))
        return self.norm(torch.cat([even, odd], dim=1))


class Identity(nn.Module):
    def forward(self, node: Node) -> Tensor:
        return node.value


class Pool(nn.Module):
    """3x3 max or average pooling, then batch norm; padding does not count in the average."""

    def __init__(self, num_channels: int, kind: Literal["max", "avg"], *, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride
        self.norm = BatchNorm(num_channels)

    def forward(self, node: Node) -> Tensor:
        if self.kind == "max":
            pooled = F.max_pool2d(node.value, 3, self.stride, 1)
        else:
            pooled = F.avg_pool2d(node.value, 3, self.stride, 1, count_include_pad=False)
        return self.norm(pooled)


@dataclass(frozen=True)
class EdgeShape:
    """What an operation needs to know of its edge; `reduction` is the precision of a factorized reduction."""

    num_channels: int
    stride: int
    arithmetic: Arithmetic
    reduction: Arithmetic


def _skip(edge: EdgeShape) -> nn.Module:
    if edge.stride == 1:
        return Identity()
    return FactorizedReduction(edge.num_channels, edge.num_channels, arithmetic=edge.reduction)


def _separable(kernel_size: int, dilation: int) -> Callable[[EdgeShape], nn.Module]:
    return lambda edge: SeparableConv(
        edge.num_channels, kernel_size, stride=edge.stride, dilation=dilation, arithmetic=edge.arithmetic
    )


# `none` has no module: an edge without an operation adds nothing to its node.
BUILDERS: dict[str, Callable[[EdgeShape], nn.Module]] = {
    "skip_connect": _skip,
    "max_pool_3x3": lambda edge: Pool(edge.num_channels, "max", stride=edge.stride),
    "avg_pool_3x3": lambda edge: Pool(edge.num_channels, "avg", stride=edge.stride),
    "sep_conv_3x3": _separable(3, 1),
    "sep_conv_5x5": _separable(5, 1),
    "dil_conv_3x3": _separable(3, 2),
    "dil_conv_5x5": _separable(5, 2),
}
assert (NONE, *BUILDERS) == OPERATIONS


def build_operation(name: str, edge: EdgeShape) -> nn.Module:
    """The operation's module: (B, C, H, W) as a `Node` -> (B, C, H / stride, W / stride).

    Raises:
      ValueError: `none`, which has no module, or an unknown name; the choices are listed.
    """
    if name not in BUILDERS:
        raise ValueError(f"no operation {name!r} to build; choose from {', '.join(BUILDERS)}")
    return BUILDERS[name](edge)
