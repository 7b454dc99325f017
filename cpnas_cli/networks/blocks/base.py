"""What a block is: how a kernel becomes a module and layers, and what every value of a cell ends with.

Nothing here needs torch: a device lists the layers of a packed model without it. What builds modules imports it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cpnas_cli import registry
from cpnas_cli.networks.arithmetic import Arithmetic
from cpnas_cli.networks.layer import Layer

if TYPE_CHECKING:
    from torch import nn

    from cpnas_cli.networks.modules.ending import Ending
    from cpnas_cli.settings import NetworkConfig


@dataclass(frozen=True)
class Kernel:
    """The filter of a convolution: its side in pixels, and how far its taps lie apart."""

    size: int
    dilation: int = 1


@dataclass(frozen=True)
class EdgeShape:
    """What an operation needs to know of its edge; `reduction` is the precision of a factorized reduction."""

    num_channels: int
    stride: int
    arithmetic: Arithmetic
    reduction: Arithmetic
    block: "Block" = field(default_factory=lambda: registry.registered(registry.BLOCKS, "separable"))


@dataclass(frozen=True)
class Block(ABC):
    """One kind of block, with its settings."""

    @staticmethod
    @abstractmethod
    def of(settings: "NetworkConfig") -> "Block":
        """The block of a network."""

    def check(self, num_channels: int) -> None:
        """Refuse the channels of a cell that it cannot work on.

        Raises:
          ValueError: which channels, and what to change.
        """
        del num_channels

    @property
    @abstractmethod
    def convolutions(self) -> str:
        """What its convolutions are called where the precision of every part is listed."""

    @property
    def real_parts(self) -> list[str]:
        """What it keeps real in the Child beside what every network does."""
        return []

    @property
    @abstractmethod
    def rectifies(self) -> bool:
        """Whether a ReLU stands before every full-precision convolution of a cell."""

    @property
    def averages(self) -> bool:
        """Whether a node is the mean over its live edges and not their sum."""
        return False

    @abstractmethod
    def build_convolution(self, edge: EdgeShape, kernel: Kernel) -> "nn.Module":
        """The module of a convolution: see `Operation.build`."""

    @abstractmethod
    def convolution_layers(self, path: str, edge: EdgeShape, kernel: Kernel, size: int) -> tuple[Layer, ...]:
        """The layers of that module: see `Operation.layers`."""

    @abstractmethod
    def build_reduction(self, edge: EdgeShape) -> "nn.Module":
        """The module of a skip connection of stride 2: see `Operation.build`."""

    @abstractmethod
    def reduction_layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        """The layers of that module: see `Operation.layers`."""

    def build_ending(self, num_channels: int, *, binary: bool) -> "Ending | None":
        """What the stem, a preprocessed input and a node of a cell end with; None for nothing.

        Args:
          binary: of the Child, where a sign is taken of the value.
        """
        del num_channels, binary
        return None

    def ending_layers(self, path: str, num_channels: int, size: int, *, binary: bool) -> tuple[Layer, ...]:
        """The layers of that module, one or none.

        Args:
          size: of the value, pixels.
        """
        del path, num_channels, size, binary
        return ()


def block_of(settings: "NetworkConfig") -> Block:
    """The block that the settings name, with theirs."""
    return registry.registered(registry.BLOCKS, settings.block).of(settings)
