"""The full-precision convolution: of the Parent, of the stem, and of what stays real in the Child."""

import math

import torch
from torch import Tensor, nn

from cpnas_cli.binarization.fast_convolution import convolve


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
