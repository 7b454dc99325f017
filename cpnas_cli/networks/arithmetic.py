"""The precision of convolutions as plain data: what modules are built from and layers are listed from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cpnas_cli.binarization.binarization import Binarization, Estimator, Progress
from cpnas_cli.networks.shapes import Precision

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cpnas_cli.networks.modules.node import Node


@dataclass(frozen=True)
class Arithmetic:
    """The precision of convolutions: which kind, and the activation that goes with it.

    Attributes:
      rectifies: whether a ReLU stands before a full-precision convolution, see `Block`.
      binarization: how a 1-bit convolution and the sign before it are made; unused in full precision.
      progress: of the training, shared by the whole network.
    """

    precision: Precision
    binarization: Binarization = field(default_factory=Binarization)
    progress: Progress = field(default_factory=Progress, compare=False)
    rectifies: bool = True

    @property
    def is_binary(self) -> bool:
        return self.precision == "binary"

    @property
    def estimator(self) -> Estimator:
        """The pseudo-gradient of signs at this moment of the training."""
        return self.binarization.estimator_at(self.progress)

    def activate(self, node: "Node") -> "Tensor":
        """sign(x) before a 1-bit convolution, ReLU(x) or x before a full-precision one."""
        if self.is_binary:
            return node.sign(self.estimator)
        return node.rectified() if self.rectifies else node.value

    def convolution(self, in_channels: int, out_channels: int, kernel_size: int, **shape: int) -> "nn.Module":
        """A convolution without bias; `shape` holds stride, padding, dilation, groups."""
        # imported here: `cpnas predict` lists layers without torch
        from cpnas_cli.binarization.convolution import BinaryConv2d
        from cpnas_cli.networks.modules.real_convolution import RealConv2d

        if not self.is_binary:
            return RealConv2d(in_channels, out_channels, kernel_size, **shape)
        return BinaryConv2d(
            in_channels,
            out_channels,
            kernel_size,
            binarization=self.binarization,
            progress=self.progress,
            **shape,
        )


FULL = Arithmetic("full")
