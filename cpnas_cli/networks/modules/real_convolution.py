"""The full-precision convolution: of the Parent, of the stem, and of what stays real in the Child."""

import math

import torch
from torch import Tensor, nn

from cpnas_cli.binarization.fast_convolution import Convolution2d
from cpnas_cli.networks.modules.stored import FLOAT32, stored_filters


class RealConv2d(Convolution2d):
    """A full-precision convolution without bias.

    With `exact_evaluation`, in evaluation mode, it is of the filters as they are stored (`stored_filters`), summed in
    float64 and rounded to float32 once; on MPS, which has no float64, in float32.

    Attributes:
      input_steps: how many whole steps of its input are 1, where it reads whole numbers (see `stem_arithmetic`).
    """

    exact_evaluation = False
    weight_format = FLOAT32
    input_steps = 1

    def reset_parameters(self) -> None:
        """He et al. 2015, for ReLU: standard deviation sqrt(2 / fan_in)."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.fan_in))

    def stored_filters(self) -> Tensor:
        """In the shape of `weight`: see `modules.stored`."""
        return stored_filters(self.weight, self.weight_format)[0]

    def scale(self) -> Tensor:
        """What the sums of `accumulate` are to be multiplied with, (C_out, 1, 1, 1): 1 but for filters in int8."""
        scale_C = stored_filters(self.weight, self.weight_format)[1]
        return (scale_C / self.input_steps).view(-1, 1, 1, 1)

    @torch.no_grad()
    def accumulate(self, x_BCHW: Tensor) -> Tensor:
        """The convolution with the filters as they are stored, without their scale."""
        filters = self.stored_filters()
        if self.input_steps > 1 or x_BCHW.device.type == "mps":  # whole numbers are exact in float32
            return self.convolve(x_BCHW, filters)
        result_BCHW = self.convolve(x_BCHW.double(), filters.double())
        return result_BCHW.float().contiguous(memory_format=torch.channels_last)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.exact_evaluation and not self.training:
            return self.accumulate(x_BCHW) * self.scale().view(-1, 1, 1)
        return self.convolve(x_BCHW, self.weight)
