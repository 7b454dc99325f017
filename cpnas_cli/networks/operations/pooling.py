"""The two poolings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.networks.blocks.base import EdgeShape
from cpnas_cli.networks.layer import Layer, Pooling
from cpnas_cli.networks.operations.base import TIMES, Family, Look, Operation

if TYPE_CHECKING:
    from torch import nn

_LOOK = Look("pool", "max, avg: pooling", style="cyan", colour="#009E73", width=2.0, dashes=(0, (1.0, 1.0)))


@dataclass(frozen=True)
class PoolOperation(Operation):
    """3x3 pooling and a batch norm, in Child and Parent alike."""

    pooling: Pooling

    @property
    def family(self) -> Family:
        return "pools"

    @property
    def look(self) -> Look:
        return _LOOK

    def build(self, edge: EdgeShape) -> "nn.Module":
        from cpnas_cli.networks.modules.pooling import Pool

        return Pool(edge.num_channels, self.pooling, stride=edge.stride)

    def layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        channels, out_size = edge.num_channels, size // edge.stride
        layer = Layer(
            path,
            "pool",
            channels,
            channels,
            size,
            out_size,
            kernel_size=3,
            stride=edge.stride,
            pooling=self.pooling,
        )
        return (layer,)


MAX_POOL_3X3 = PoolOperation("max_pool_3x3", short="max", label=f"max 3{TIMES}3", pooling="max")
AVG_POOL_3X3 = PoolOperation("avg_pool_3x3", short="avg", label=f"avg 3{TIMES}3", pooling="avg")
