"""What an operation is: its name, its module, its layers, and how it is shown.

Nothing here needs torch: a device lists the layers of a packed model without it. `Operation.build` imports it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cpnas_cli import registry
from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.layer import Layer

if TYPE_CHECKING:
    from torch import nn

Family = Literal["convolutions", "pools", "skips", "none"]
FAMILIES: tuple[Family, ...] = ("convolutions", "pools", "skips", "none")
"""What operations are counted together as; in this order wherever they are listed."""

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Look:
    """How operations that are drawn alike are drawn; dashes tell them apart where there is no colour.

    Attributes:
      name: of what they have in common. meaning: of their line, in the legend of a picture.
      style: of a text in a terminal, in Rich's words.
      colour, dashes, width: of a line in a picture, in Matplotlib's words; the width in points.
    """

    name: str
    meaning: str
    style: str
    colour: str
    width: float
    dashes: Literal["solid"] | tuple[float, tuple[float, ...]] = "solid"


@dataclass(frozen=True)
class Operation(ABC):
    """One candidate of an edge.

    Attributes:
      name: in genotypes, settings and the names of weights.
      short: in a narrow table, at most 5 letters. label: in a picture.
    """

    name: str
    short: str
    label: str

    @property
    @abstractmethod
    def family(self) -> Family:
        """What it is counted as."""

    @property
    @abstractmethod
    def look(self) -> Look:
        """How it is drawn."""

    @abstractmethod
    def build(self, edge: EdgeShape) -> "nn.Module":
        """The operation's module: (B, C, H, W) as a `Node` -> (B, C, H / stride, W / stride).

        Raises:
          ValueError: it has none.
        """

    @abstractmethod
    def layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        """The layers of that module; none where nothing is computed.

        In one row of layers each but the last `feeds_next`; others lie side by side.

        Args:
          path: the name of the module in the network.
          size: of the node that is read, pixels.
        """


def operation_of(name: str) -> Operation:
    """The operation of this name.

    Raises:
      ValueError: there is none; the choices are listed.
    """
    if name not in registry.OPERATIONS:
        raise ValueError(f"no operation {name!r}; choose from {', '.join(registry.OPERATIONS)}")
    operation = registry.registered(registry.OPERATIONS, name)
    assert operation.name == name, f"the registry has {operation.name} as {name}"
    return operation
