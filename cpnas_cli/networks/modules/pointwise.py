"""The 1x1 convolution with its activation and batch norm."""

from torch import Tensor, nn

from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.modules.batch_norm import BatchNorm, normalized
from cpnas_cli.networks.modules.node import Node


class PointwiseConv(nn.Module):
    """A 1x1 convolution: activation, 1x1, batch norm. The preprocessing of a cell's input."""

    def __init__(self, in_channels: int, out_channels: int, *, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.pointwise = arithmetic.convolution(in_channels, out_channels, 1)
        self.norm = BatchNorm(out_channels)

    def forward(self, node: Node) -> Tensor:
        return normalized([self.pointwise], self.norm, [self.arithmetic.activate(node)])
