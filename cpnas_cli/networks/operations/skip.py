"""The skip connection."""

from typing import TYPE_CHECKING

from cpnas_cli.networks.arithmetic import EdgeShape
from cpnas_cli.networks.layer import Layer, reduction_layers
from cpnas_cli.networks.operations.base import Family, Look, Operation

if TYPE_CHECKING:
    from torch import nn

_LOOK = Look("skip", "skip connection", style="bright_black", colour="#333333", width=0.9)


class SkipConnection(Operation):
    """The value as it is; at stride 2 a factorized reduction."""

    @property
    def family(self) -> Family:
        return "skips"

    @property
    def look(self) -> Look:
        return _LOOK

    def build(self, edge: EdgeShape) -> "nn.Module":
        from cpnas_cli.networks.modules.identity import Identity
        from cpnas_cli.networks.modules.reduction import FactorizedReduction

        if edge.stride == 1:
            return Identity()
        return FactorizedReduction(edge.num_channels, edge.num_channels, arithmetic=edge.reduction)

    def layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        if edge.stride == 1:
            return ()
        binary = edge.reduction.is_binary
        return reduction_layers(path, edge.num_channels, edge.num_channels, size, binary=binary)


SKIP_CONNECT = SkipConnection("skip_connect", short="skip", label="skip")
