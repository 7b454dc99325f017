"""The factorized reduction: half the rows and columns, without a pixel that is not read."""

from torch import Tensor, nn

from cpnas_cli.binarization.thinning import thinned
from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.modules.batch_norm import BatchNorm, normalized
from cpnas_cli.networks.modules.node import Node


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
        return normalized([self.even, self.odd], self.norm, thinned(x_BCHW, 2, starts=(0, 1)))
