"""The candidate operations of an edge, in Child (1-bit) and Parent (full) precision.

Every operation reads a `Node`, which computes the sign or the ReLU of its value once, however many
edges read it. A stride of 2 halves the image; the number of channels stays.

In evaluation mode the Child's arithmetic is defined operation by operation, so that the packed engine
can do the very same: sums of signs are exact integers; a batch norm is one multiplication and one
addition, each rounded to float32; real convolutions are summed in float64 and rounded once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.binarization.estimators import binarize_activation
from cpnas_cli.binarization.fast_convolution import convolve
from cpnas_cli.binarization.filters import filter_scale
from cpnas_cli.binarization.normalized_sign import normalized_sign
from cpnas_cli.distributed.collectives import synchronized_batch_norm
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.search_space import NONE, OPERATIONS


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
    """A full-precision convolution without bias.

    With `exact_evaluation` it is summed in float64 in evaluation mode and rounded to float32 once; on MPS, which has
    no float64, in float32.
    """

    exact_evaluation = False

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
        if self.exact_evaluation and not self.training and x_BCHW.device.type != "mps":
            result_BCHW = self._convolve(x_BCHW.double(), self.weight.double())
            return result_BCHW.float().contiguous(memory_format=torch.channels_last)
        return self._convolve(x_BCHW, self.weight)

    def _convolve(self, x_BCHW: Tensor, weight: Tensor) -> Tensor:
        return convolve(
            x_BCHW, weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )


# Measured: with fewer values than these its calls outweigh what the sign of a batch norm in one function saves.
_WORTH_ONE_FUNCTION = 2**17


class BatchNorm(nn.Module):
    """Batch normalization whose running statistics are kept only where they are wanted.

    Modes of `statistics`:
      "running": an exponential mean over training batches, for evaluation (a network that is trained).
      "none": training uses the batch's own statistics and keeps nothing (the shared networks).
      "collect": like training, and the plain mean over the batches since `start_collecting` is kept.
    In evaluation mode the kept statistics are used, whatever produced them; with `exact_evaluation`
    as x * scale + shift, both operations rounded. With `synchronized` the batch of a training with "running" is
    that of all processes together.
    """

    exact_evaluation = False
    synchronized = False
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
        if not self.training and self.exact_evaluation:
            scale_C, shift_C = self.folded()
            return _affine(x_BCHW, scale_C, shift_C)
        if not self.training:
            return F.batch_norm(x_BCHW, self.running_mean, self.running_var, self.weight, self.bias, False, 0, self.eps)
        if self.synchronized:
            return synchronized_batch_norm(
                x_BCHW,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                momentum=self.momentum,
                eps=self.eps,
            )
        running_mean, running_var, momentum = self._updated_statistics()
        return F.batch_norm(x_BCHW, running_mean, running_var, self.weight, self.bias, True, momentum, self.eps)

    def sign(self, x_BCHW: Tensor, *, estimator: str) -> Tensor:
        """The sign of the output, see `binarize_activation`; in one function where that saves memory."""
        is_worth_it = (
            x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32 and x_BCHW.numel() >= _WORTH_ONE_FUNCTION
        )
        if not self.training or self.synchronized or not is_worth_it:
            return binarize_activation(self(x_BCHW), estimator=estimator)
        running_mean, running_var, momentum = self._updated_statistics()
        return normalized_sign(
            x_BCHW,
            weight=self.weight,
            bias=self.bias,
            running_mean=running_mean,
            running_var=running_var,
            momentum=momentum,
            eps=self.eps,
            estimator=estimator,
        )

    def _updated_statistics(self) -> tuple[Tensor | None, Tensor | None, float]:
        """Mean and variance that a training batch updates, and what it weighs in them; once for every batch."""
        if self.statistics == "none":
            return None, None, 0.0
        if self.statistics == "running":
            return self.running_mean, self.running_var, self.momentum
        self._num_collected += 1
        return self.running_mean, self.running_var, 1 / self._num_collected

    @torch.no_grad()
    def folded(self) -> tuple[Tensor, Tensor]:
        """(scale, shift), each (C,), of the kept statistics: BN(x) = x * scale + shift."""
        scale_C = self.weight / torch.sqrt(self.running_var + self.eps)
        return scale_C, self.bias - self.running_mean * scale_C


def _affine(x_BCHW: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    # two operations on purpose: a fused one rounds once on some processors and twice on others
    return x_BCHW.mul(scale_C.view(-1, 1, 1)).add_(shift_C.view(-1, 1, 1))


@torch.no_grad()
def folded_scale(convolutions: Sequence[BinaryConv2d], norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,), of binary convolutions side by side and the batch norm behind them.

    BN(alpha * n) = n * scale + shift for an integer sum of signs n.
    """
    scale_C, shift_C = norm.folded()
    alpha_C = torch.cat([filter_scale(convolution.weight).flatten() for convolution in convolutions])
    return alpha_C * scale_C, shift_C


def normalized(convolutions: Sequence[nn.Module], norm: BatchNorm, inputs_BCHW: Sequence[Tensor]) -> Tensor:
    """The batch norm of convolutions whose results lie side by side, one input each: (B, C, H, W)."""
    pairs = list(zip(convolutions, inputs_BCHW, strict=True))
    binary = [convolution for convolution in convolutions if isinstance(convolution, BinaryConv2d)]
    if norm.training or not binary:
        return norm(_side_by_side([convolution(x_BCHW) for convolution, x_BCHW in pairs]))
    sums_BCHW = _side_by_side([convolution.accumulate(x) for convolution, (_, x) in zip(binary, pairs, strict=True)])
    return _affine(sums_BCHW, *folded_scale(binary, norm))


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


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
        x_BCHW = self.arithmetic.activate(node)
        if self.between is None:
            x_BCHW = self.depthwise(x_BCHW)
        elif isinstance(self.between, BatchNorm) and self.between.training:  # an export puts another module here
            x_BCHW = self.between.sign(self.depthwise(x_BCHW), estimator=self.arithmetic.estimator)
        else:
            x_BCHW = normalized([self.depthwise], self.between, [x_BCHW])
            x_BCHW = binarize_activation(x_BCHW, estimator=self.arithmetic.estimator)
        return normalized([self.pointwise], self.norm, [x_BCHW])


class PointwiseConv(nn.Module):
    """A 1x1 convolution: activation, 1x1, batch norm. The preprocessing of a cell's input."""

    def __init__(self, in_channels: int, out_channels: int, *, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.pointwise = arithmetic.convolution(in_channels, out_channels, 1)
        self.norm = BatchNorm(out_channels)

    def forward(self, node: Node) -> Tensor:
        return normalized([self.pointwise], self.norm, [self.arithmetic.activate(node)])


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
        even_BCHW = x_BCHW[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        odd_BCHW = x_BCHW[:, :, 1::2, 1::2].contiguous(memory_format=torch.channels_last)
        return normalized([self.even, self.odd], self.norm, [even_BCHW, odd_BCHW])


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
