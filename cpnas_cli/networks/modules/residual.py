"""The grouped convolution with its residual, and the residual's halving."""

from torch import Tensor, nn

from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.modules.batch_norm import BatchNorm, normalized
from cpnas_cli.networks.modules.node import Node


class ResidualConv(nn.Module):
    """y = BN(conv(x)) + x, with x halved at stride 2; in the Child the convolution is 1-bit and reads sign(x + b).

    b is of the value (see `Ending`); so is the activation, which follows the sum of all edges.

    Source: Bi-Real Net, Liu et al. 2018 (arXiv 1808.00278), section 3.1; the grouped convolution: EBNAS.
    """

    def __init__(
        self, num_channels: int, kernel_size: int, *, stride: int, dilation: int, groups: int, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        self.arithmetic, self.stride = arithmetic, stride
        self.convolution = arithmetic.convolution(
            num_channels,
            num_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            groups=groups,
        )
        self.norm = BatchNorm(num_channels)

    def forward(self, node: Node) -> Tensor:
        result_BCHW = normalized([self.convolution], self.norm, [self.arithmetic.activate(node)])
        return result_BCHW + (node.halved() if self.stride == 2 else node.value)


class Halving(nn.Module):
    """A skip connection of stride 2: the mean over 2x2 pixels."""

    def forward(self, node: Node) -> Tensor:
        return node.halved()
