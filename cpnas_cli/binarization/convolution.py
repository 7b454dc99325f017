"""The 1-bit convolution of 1-bit activations."""

import math

import torch
from torch import Tensor, nn

from cpnas_cli.binarization.binarization import LEARNED, STANDARDIZED, Binarization, Progress
from cpnas_cli.binarization.estimators import sign
from cpnas_cli.binarization.fast_convolution import Convolution2d
from cpnas_cli.binarization.filters import binarize_filters, filter_scale, prepared, recu_factor


class BinaryConv2d(Convolution2d):
    """A convolution of 1-bit activations with scaled 1-bit weights; no bias (batch norm follows).

    The input is expected to hold only +1 and -1 (see `binarize_activation`), so that one sign can be
    shared by all convolutions that read it. Zero padding stays zero: a third value, which the packed
    engine treats exactly.

    Args:
      binarization: what its filters and its scale are; without it the defaults.
      progress: of the training, shared with the whole network; without it one of its own.

    Attributes:
      weight: H, the latent filters, (C_out, C_in / groups, k, k).
      alpha: the learned scale, (C_out, 1, 1, 1); None where it is mean |H'|.
      binarizes_weights: in training; without it H' is convolved with as it is, as the first of two stages does
        (AdamBNN, arXiv 2106.11309). An evaluation has 1-bit weights always.
    """

    binarizes_weights = True

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
        binarization: Binarization | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        self.binarization, self.progress = binarization or Binarization(), progress or Progress()
        self.alpha: nn.Parameter | None = None
        if self.binarization.scale == LEARNED:
            self.alpha = nn.Parameter(self._mean_scale())

    def reset_parameters(self) -> None:
        """He initialization for a sign, whose gain is 1: standard deviation 1 / sqrt(fan_in)."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.fan_in))

    def latents(self) -> Tensor:
        """H', of which sign and scale are taken, in the shape of the weight; differentiable."""
        return prepared(self.weight, latents=self.binarization.latents)

    @torch.no_grad()
    def signs(self) -> Tensor:
        """The 1-bit weights, +1 and -1, in the shape of the weight: what inference uses; no gradient."""
        return sign(self.latents())

    @torch.no_grad()
    def scale(self) -> Tensor:
        """alpha, (C_out, 1, 1, 1): what inference multiplies the sums of signs by; no gradient. A learned one may be
        negative or 0."""
        return self._mean_scale() if self.alpha is None else self.alpha.detach()

    @torch.no_grad()
    def reset_scale(self) -> None:
        """A learned scale starts (again) at mean |H'| of the filters as they are now."""
        if self.alpha is not None:
            self.alpha.copy_(self._mean_scale())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        is_real = self.training and not self.binarizes_weights
        return self.convolve(x_BCHW, self.latents() if is_real else self._filters())

    def _filters(self) -> Tensor:
        """alpha sign(H') with its gradient, see `binarize_filters`.

        Plain and centred filters keep a magnitude of their own, and the clip at 1 holds it. Standardized ones have
        none, and nearly a third of their taps lie beyond 1: their gradient ends nowhere, or where ReCU says.
        """
        chosen = self.binarization
        clip_bound = None if chosen.recu or chosen.latents == STANDARDIZED else 1.0
        clip_factor = recu_factor(self.progress.value) if chosen.recu else None
        return binarize_filters(self.latents(), scale=self.alpha, clip_bound=clip_bound, clip_factor=clip_factor)

    @torch.no_grad()
    def accumulate(self, x_BCHW: Tensor) -> Tensor:
        """The sums of signs alone, without the scale: integers, exact in float32 in any order of summation."""
        return self.convolve(x_BCHW, self.signs())

    @torch.no_grad()
    def _mean_scale(self) -> Tensor:
        return filter_scale(self.latents())

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        return (
            f"{in_channels * self.groups}, {out_channels}, kernel_size={kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, 1 bit"
        )
