"""Filters in 1 bit: their scale alpha, and their reconstruction H^ = alpha sign(H).

Forward (XNOR-Net, Rastegari et al. 2016, arXiv 1603.05279): weights alpha_c * sign(H_c), with sign(0) = +1. H is the
latent full-precision filter.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpnas_cli.binarization.estimators import pseudo_gradient, sign


def filter_scale(latent: Tensor) -> Tensor:
    """alpha_c = mean |H_c| per output channel: (C_out, ...) -> (C_out, 1, ..., 1).

    The minimizer of ||H_c - alpha sign(H_c)||^2 in closed form (XNOR-Net, equation 6).
    """
    return latent.abs().mean(dim=tuple(range(1, latent.dim())), keepdim=True)


@torch.no_grad()
def reconstruction(latent: Tensor) -> Tensor:
    """H^ = alpha sign(H) as a constant, in the shape of H; `binarize_filters` has a gradient."""
    return sign(latent).mul_(filter_scale(latent))


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
