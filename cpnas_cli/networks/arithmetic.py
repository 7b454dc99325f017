"""The precision of a network's parts, as plain data: what its modules are built from and its layers are listed from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cpnas_cli.binarization.binarization import Binarization, Estimator, Progress
from cpnas_cli.networks.blocks.base import Block, block_of
from cpnas_cli.networks.blocks.separable import SEPARABLE
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.settings import NetworkConfig

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


@dataclass(frozen=True)
class Arithmetics:
    """Which arithmetic each part of a network uses, and its block; what stays real in the Child is a setting."""

    edges: Arithmetic
    preprocessing: Arithmetic
    reduction: Arithmetic
    block: Block

    @property
    def is_binary(self) -> bool:
        """Whether the network is the Child."""
        return self.edges.is_binary

    def edge(self, num_channels: int, *, stride: int) -> "EdgeShape":
        return EdgeShape(num_channels, stride, self.edges, self.reduction, self.block)

    @staticmethod
    def of(network: NetworkConfig, precision: Precision, progress: Progress | None = None) -> "Arithmetics":
        """
        Args:
          progress: what the parts of one network share; without it one that stays 0.
        """
        block = block_of(network)
        arithmetic = Arithmetic(precision, Binarization.of(network), progress or Progress(), block.rectifies)
        full = Arithmetic("full", rectifies=block.rectifies)
        real = network.real_parts
        return Arithmetics(
            edges=arithmetic,
            preprocessing=full if "preprocessing" in real else arithmetic,
            reduction=full if "factorized_reduction" in real else arithmetic,
            block=block,
        )


@dataclass(frozen=True)
class EdgeShape:
    """What an operation needs to know of its edge; `reduction` is the precision of a factorized reduction."""

    num_channels: int
    stride: int
    arithmetic: Arithmetic
    reduction: Arithmetic
    block: Block = SEPARABLE
