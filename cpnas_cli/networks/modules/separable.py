"""The depthwise separable convolution."""

from torch import Tensor, nn

from cpnas_cli.binarization.estimators import binarize_activation
from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.modules.batch_norm import BatchNorm, normalized
from cpnas_cli.networks.modules.node import Node


class SeparableConv(nn.Module):
    """A depthwise separable convolution, optionally dilated.

    Child: sign, 1-bit depthwise, batch norm, sign, 1-bit 1x1, batch norm; the sign at the input of
    each convolution is the non-linearity. Parent: ReLU, depthwise, 1x1, batch norm.
    One block, not the two in a row of DARTS (ours).
    """

    def __init__(
        self, num_channels: int, kernel_size: int, *, stride: int, dilation: int, arithmetic: Arithmetic
    ) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.depthwise = arithmetic.convolution(
            num_channels,
            num_channels,
            kernel_size,
            stride=stride,
            padding=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            groups=num_channels,
        )
        self.between = BatchNorm(num_channels) if arithmetic.precision == "binary" else None
        self.pointwise = arithmetic.convolution(num_channels, num_channels, 1)
        self.norm = BatchNorm(num_channels)

    def forward(self, node: Node) -> Tensor:
        x_BCHW = self.arithmetic.activate(node)
        if self.between is None:
            x_BCHW = self.depthwise(x_BCHW)
        elif isinstance(self.between, BatchNorm) and self.between.training:  # an export puts another module here
            x_BCHW = self.between.sign(self.depthwise(x_BCHW), estimator=self.arithmetic.estimator)
        else:
            x_BCHW = normalized([self.depthwise], self.between, [x_BCHW])
            x_BCHW = binarize_activation(x_BCHW, estimator=self.arithmetic.estimator)
        return normalized([self.pointwise], self.norm, [x_BCHW])
