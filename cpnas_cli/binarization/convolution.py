"""The 1-bit convolution of 1-bit activations."""

import math

import torch
from torch import Tensor, nn

from cpnas_cli.binarization.estimators import sign
from cpnas_cli.binarization.fast_convolution import Convolution2d
from cpnas_cli.binarization.filters import binarize_filters, filter_scale


class BinaryConv2d(Convolution2d):
    """A convolution of 1-bit activations with scaled 1-bit weights; no bias (batch norm follows).

    The input is expected to hold only +1 and -1 (see `binarize_activation`), so that one sign can be
    shared by all convolutions that read it. Zero padding stays zero: a third value, which the packed
    engine treats exactly.

    Attributes:
      weight: H, the latent filters, (C_out, C_in / groups, k, k).
      binarizes_weights: in training; without it H is convolved with as it is, as the first of two stages does
        (AdamBNN, arXiv 2106.11309). An evaluation has 1-bit weights always.
    """

    binarizes_weights = True

    def reset_parameters(self) -> None:
        """He initialization for a sign, whose gain is 1: standard deviation 1 / sqrt(fan_in)."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.fan_in))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        is_real = self.training and not self.binarizes_weights
        return self.convolve(x_BCHW, self.weight if is_real else binarize_filters(self.weight))

    @torch.no_grad()
    def signs(self) -> Tensor:
        """The signs of the filters, +1 and -1, in the shape of `weight`."""
        return sign(self.weight)

    @torch.no_grad()
    def scale(self) -> Tensor:
        """alpha, (C_out, 1, 1, 1)."""
        return filter_scale(self.weight)

    @torch.no_grad()
    def accumulate(self, x_BCHW: Tensor) -> Tensor:
        """The sums of signs alone, without the scale: integers, exact in float32 in any order of summation."""
        return self.convolve(x_BCHW, self.signs())

    def extra_repr(self) -> str:
        out_channels, in_channels, kernel_size, _ = self.weight.shape
        return (
            f"{in_channels * self.groups}, {out_channels}, kernel_size={kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, 1 bit"
        )
