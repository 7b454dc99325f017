"""Binarization: sign with a pseudo-gradient, scaled signs of filters, and 1-bit convolution.

Forward (XNOR-Net, Rastegari et al. 2016, arXiv 1603.05279): activations sign(x), weights
alpha_c * sign(H_c), with sign(0) = +1. H is the latent full-precision filter and
H^ = alpha sign(H) its reconstruction.

What is saved for the backward pass is the input tensor itself (no copy) and, for weights, one real
number per filter.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cpnas_cli.binarization.fast_convolution import convolve

ESTIMATORS = ("clipped", "polynomial")

# The smallest float32 above 1: in float32 and narrower types |x| < this is exactly |x| <= 1, which is
# what the fused kernel (open interval) needs to pass the gradient at |x| = 1.
_JUST_ABOVE_ONE = 1.0 + 2.0**-23


def check_estimator(name: str) -> None:
    """Raises ValueError unless the name is one of `ESTIMATORS`."""
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r}; choose from {', '.join(ESTIMATORS)}")


_MINUS_ONE = torch.tensor(-1.0)


def sign(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """+1 where x >= 0 (also at -0.0), else -1; NaN gives -1. Same shape and type as x, not differentiable.

    Args:
      out: where the result goes; may be x itself.
    """
    positive = torch.ge(x, 0, out=torch.empty_like(x) if out is None else out)
    return torch.add(_MINUS_ONE, positive, alpha=2, out=positive)


def pseudo_gradient(grad: Tensor, x: Tensor, *, estimator: str) -> Tensor:
    """The gradient with respect to x, given that with respect to sign(x); see `binarize_activation`."""
    if estimator == "clipped":
        return torch.ops.aten.hardtanh_backward(grad, x, -_JUST_ABOVE_ONE, _JUST_ABOVE_ONE)
    return x.abs().clamp_(max=1).sub_(1).mul_(-2).mul_(grad)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, estimator: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.estimator = estimator
        return sign(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return pseudo_gradient(grad, x, estimator=ctx.estimator), None


def binarize_activation(x: Tensor, *, estimator: str) -> Tensor:
    """sign(x) with a pseudo-gradient; any shape.

    Forward: +1 where x >= 0, so +1 at 0, else -1.
    Backward, by `estimator`:
      "clipped": 1 where |x| <= 1 (so 1 at |x| = 1), else 0. The clipped straight-through estimator.
      "polynomial": 2 - 2|x| where |x| <= 1 (so 2 at 0 and 0 at |x| = 1), else 0. Bi-Real Net, Liu et
        al. 2018 (arXiv 1808.00278), equation 6.
    """
    check_estimator(estimator)
    result = _Sign.apply(x, estimator)
    assert isinstance(result, Tensor)
    return result


def filter_scale(latent: Tensor) -> Tensor:
    """alpha_c = mean |H_c| per output channel: (C_out, ...) -> (C_out, 1, ..., 1).

    The minimizer of ||H_c - alpha sign(H_c)||^2 in closed form (XNOR-Net, equation 6).
    """
    return latent.abs().mean(dim=tuple(range(1, latent.dim())), keepdim=True)


class _BinarizedFilters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor) -> Tensor:
        scale = filter_scale(latent)
        ctx.save_for_backward(latent, scale)
        return sign(latent).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        latent, scale = ctx.saved_tensors
        return pseudo_gradient(grad, latent, estimator="clipped").mul_(scale)


def binarize_filters(latent: Tensor) -> Tensor:
    """H^ = alpha sign(H), the reconstruction of the filters; sign(0) = +1.

    Args:
      latent: H, (C_out, C_in / groups, k, k), full precision.

    Backward: grad * alpha where |H| <= 1 (so alpha at |H| = 1), else 0: the clipped straight-through
    estimator with the scale held constant (ours: XNOR-Net also differentiates the scale).
    """
    result = _BinarizedFilters.apply(latent)
    assert isinstance(result, Tensor)
    return result


class BinaryConv2d(nn.Module):
    """A convolution of 1-bit activations with scaled 1-bit weights; no bias (batch norm follows).

    The input is expected to hold only +1 and -1 (see `binarize_activation`), so that one sign can be
    shared by all convolutions that read it. Zero padding stays zero: a third value, which the packed
    engine treats exactly.

    Attributes:
      weight: H, the latent filters, (C_out, C_in / groups, k, k).
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

    def reset_parameters(self) -> None:
        """He initialization for a sign, whose gain is 1: standard deviation 1 / sqrt(fan_in)."""
        fan_in = self.weight[0].numel()
        nn.init.normal_(self.weight, std=1 / math.sqrt(fan_in))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self._convolve(x_BCHW, binarize_filters(self.weight))

    @torch.no_grad()
    def accumulate(self, x_BCHW: Tensor) -> Tensor:
        """The sums of signs alone, without the scale: integers, exact in float32 in any order of summation."""
        return self._convolve(x_BCHW, sign(self.weight))

    def _convolve(self, x_BCHW: Tensor, weight: Tensor) -> Tensor:
        return convolve(
            x_BCHW, weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        return (
            f"{in_channels * self.groups}, {out_channels}, kernel_size={kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, 1 bit"
        )
