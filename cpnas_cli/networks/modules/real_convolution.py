"""The full-precision convolution: of the Parent, of the stem, and of what stays real in the Child."""

import math

import torch
from torch import Tensor, nn

from cpnas_cli.binarization.fast_convolution import Convolution2d


class RealConv2d(Convolution2d):
    """A full-precision convolution without bias.

    With `exact_evaluation` it is summed in float64 in evaluation mode and rounded to float32 once; on MPS, which has
    no float64, in float32.
    """

    exact_evaluation = False

    def reset_parameters(self) -> None:
        """He et al. 2015, for ReLU: standard deviation sqrt(2 / fan_in)."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.fan_in))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.exact_evaluation and not self.training and x_BCHW.device.type != "mps":
            result_BCHW = self.convolve(x_BCHW.double(), self.weight.double())
            return result_BCHW.float().contiguous(memory_format=torch.channels_last)
        return self.convolve(x_BCHW, self.weight)
