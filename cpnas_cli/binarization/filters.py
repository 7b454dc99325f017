"""Filters in 1 bit: what their sign is taken of, their scale alpha, and their reconstruction H^ = alpha sign(H').

Forward (XNOR-Net, Rastegari et al. 2016, arXiv 1603.05279): weights alpha_c * sign(H'_c), with sign(0) = +1. H is the
latent full-precision filter that is trained; H' is H itself, or H centred or standardized.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpnas_cli.binarization.binarization import CENTERED, LATENTS, PLAIN
from cpnas_cli.binarization.estimators import clipped_gradient, sign

RECU_START, RECU_END = 0.85, 0.99  # tau, as published
_EPSILON = 1e-8  # of a variance: a filter whose taps are all equal has a finite gradient


def prepared(latent: Tensor, *, latents: str) -> Tensor:
    """H', of which sign and scale are taken, in the shape of H; differentiable.

    By `latents`, for each filter c with the mean and the deviation (of the population) over its taps:
      "plain": H_c
      "centered": H_c - mean_c
      "standardized": (H_c - mean_c) / sqrt(variance_c + 1e-8), as in IR-Net (arXiv 1909.10788, equation 4)

    Raises:
      ValueError: `latents` is none of these.
    """
    if latents not in LATENTS:
        raise ValueError(f"unknown latents {latents!r}; choose from {', '.join(LATENTS)}")
    if latents == PLAIN:
        return latent
    taps = _taps(latent)
    centered = latent - latent.mean(dim=taps, keepdim=True)
    if latents == CENTERED:
        return centered
    return centered / (centered.square().mean(dim=taps, keepdim=True) + _EPSILON).sqrt()


def filter_scale(latent: Tensor) -> Tensor:
    """alpha_c = mean |H'_c| per output channel: (C_out, ...) -> (C_out, 1, ..., 1).

    The minimizer of ||H'_c - alpha sign(H'_c)||^2 in closed form (XNOR-Net, equation 6).
    """
    return latent.abs().mean(dim=_taps(latent), keepdim=True)


def _taps(latent: Tensor) -> tuple[int, ...]:
    return tuple(range(1, latent.dim()))


def recu_factor(progress: float) -> float:
    """-ln(2 - 2 tau), by which ReCU multiplies mean |H'_c| to have its bound Q_c.

    where tau goes from 0.85 to 0.99 with the progress of the training, in [0, 1]: Q is the quantile tau of a
    Laplacian whose mean |w| is that.

    Source: Xu et al. 2021, "ReCU: Reviving the Dead Weights in Binary Neural Networks" (arXiv 2103.12369).
    """
    tau = RECU_START + (RECU_END - RECU_START) * progress
    return -math.log(2 - 2 * tau)


@torch.no_grad()
def reconstruction(latent: Tensor) -> Tensor:
    """H^ = alpha sign(H') as a constant, in the shape of H'; `binarize_filters` has a gradient."""
    return sign(latent).mul_(filter_scale(latent))


class _BinarizedFilters(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, scale: Tensor, clip_bound: float | None, clip_factor: float | None) -> Tensor:
        ctx.save_for_backward(latent, scale)
        ctx.clip = clip_bound, clip_factor
        return sign(latent).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        latent, scale = ctx.saved_tensors
        clip_bound, clip_factor = ctx.clip
        grad_latent = grad_scale = None
        if ctx.needs_input_grad[0]:
            if clip_bound is not None:
                grad_latent = clipped_gradient(grad, latent, clip_bound=clip_bound).mul_(scale)
            elif clip_factor is not None:
                grad_latent = (grad * scale).mul_(latent.abs() <= filter_scale(latent).mul_(clip_factor))
            else:
                grad_latent = grad * scale
        if ctx.needs_input_grad[1]:
            grad_scale = sign(latent).mul_(grad).sum(dim=_taps(latent), keepdim=True)
        return grad_latent, grad_scale, None, None


def binarize_filters(
    latent: Tensor, *, scale: Tensor | None = None, clip_bound: float | None = 1.0, clip_factor: float | None = None
) -> Tensor:
    """H^ = alpha sign(H'), the reconstruction of the filters; sign(0) = +1.

    Args:
      latent: H', (C_out, C_in / groups, k, k), full precision.
      scale: alpha, (C_out, 1, 1, 1), which gets the gradient sum(grad * sign(H')) over the taps; without it alpha is
        mean |H'|, held constant in the backward pass (ours: XNOR-Net also differentiates it).
      clip_bound, clip_factor: where the gradient of H' ends. It is grad * alpha where |H'| <= clip_bound (the clipped
        straight-through estimator; alpha at |H'| = clip_bound and at 0), or, with clip_bound=None, where
        |H'_c| <= clip_factor * mean |H'_c| (there too alpha at the bound), or with neither everywhere; else 0.
    """
    used = filter_scale(latent.detach()) if scale is None else scale
    result = _BinarizedFilters.apply(latent, used, clip_bound, clip_factor)
    assert isinstance(result, Tensor)
    return result
