"""The precision of every part of a network, and its block, as plain data."""

from dataclasses import dataclass

from cpnas_cli.binarization.binarization import Binarization, Progress
from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.blocks.base import Block, EdgeShape, block_of
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.settings import NetworkConfig


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

    def edge(self, num_channels: int, *, stride: int) -> EdgeShape:
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
