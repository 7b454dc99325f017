"""Batch norm: with statistics that are kept only where they are wanted, and folded behind 1-bit convolutions.

In evaluation mode the Child's arithmetic is defined operation by operation, so that the packed engine can do the very
same: sums of signs are exact integers; a batch norm is one multiplication and one addition, each rounded to float32;
real convolutions are summed in float64 and rounded once. Real values are those that are stored (`modules.stored`).
"""

from collections.abc import Sequence
from typing import Literal, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.binarization.estimators import binarize_activation
from cpnas_cli.binarization.normalized_sign import normalized_sign
from cpnas_cli.distributed.collectives import synchronized_batch_norm
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.stored import FLOAT32, stored

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
    real_format = FLOAT32
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
            return _affine(x_BCHW, *self.stored())
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

    def sign(self, x_BCHW: Tensor, *, estimator: Estimator) -> Tensor:
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

    def stored(self) -> tuple[Tensor, Tensor]:
        """`folded`, as it is stored."""
        scale_C, shift_C = self.folded()
        return stored(scale_C, self.real_format), stored(shift_C, self.real_format)


def _affine(x_BCHW: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    # two operations on purpose: a fused one rounds once on some processors and twice on others
    return x_BCHW.mul(scale_C.view(-1, 1, 1)).add_(shift_C.view(-1, 1, 1))


@torch.no_grad()
def folded_scale(convolutions: Sequence[BinaryConv2d | RealConv2d], norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """(scale, shift), each (C,), of convolutions side by side and the batch norm behind them, as they are stored.

    BN(alpha * n) = n * scale + shift for a sum n, in a 1-bit convolution one of signs.
    """
    scale_C, shift_C = norm.folded()
    alpha_C = torch.cat([convolution.scale().flatten() for convolution in convolutions])
    return stored(alpha_C * scale_C, norm.real_format), stored(shift_C, norm.real_format)


def normalized(convolutions: Sequence[nn.Module], norm: nn.Module, inputs_BCHW: Sequence[Tensor]) -> Tensor:
    """The batch norm of convolutions whose results lie side by side, one input each: (B, C, H, W)."""
    pairs = list(zip(convolutions, inputs_BCHW, strict=True))
    exact = [convolution for convolution in convolutions if _sums_exactly(convolution)]
    # an export puts other modules here, which hold all that is constant
    if not isinstance(norm, BatchNorm) or norm.training or not norm.exact_evaluation or not exact:
        return norm(_side_by_side([convolution(x_BCHW) for convolution, x_BCHW in pairs]))
    sums_BCHW = _side_by_side([convolution.accumulate(x) for convolution, (_, x) in zip(exact, pairs, strict=True)])
    return _affine(sums_BCHW, *folded_scale(exact, norm))


def _sums_exactly(convolution: nn.Module) -> TypeGuard[BinaryConv2d | RealConv2d]:
    """Sums of signs are exact whenever statistics are used; a real convolution has a mode of its own for it."""
    return isinstance(convolution, BinaryConv2d) or (isinstance(convolution, RealConv2d) and not convolution.training)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
