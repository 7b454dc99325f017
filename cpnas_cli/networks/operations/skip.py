"""The skip connection."""

from typing import TYPE_CHECKING

from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.operations.base import Family, Look, Operation

if TYPE_CHECKING:
    from torch import nn

_LOOK = Look("skip", "skip connection", style="bright_black", colour="#333333", width=0.9)


class SkipConnection(Operation):
    """The value as it is; at stride 2 as the block of the network reduces."""

    @property
    def family(self) -> Family:
        return "skips"

    @property
    def look(self) -> Look:
        return _LOOK

    def build(self, edge: EdgeShape) -> "nn.Module":
        from cpnas_cli.networks.modules.identity import Identity

        return Identity() if edge.stride == 1 else edge.block.build_reduction(edge)

    def layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        return () if edge.stride == 1 else edge.block.reduction_layers(path, edge, size)


SKIP_CONNECT = SkipConnection("skip_connect", short="skip", label="skip")
