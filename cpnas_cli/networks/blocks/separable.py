"""The published block: a depthwise and a 1x1 convolution."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.networks.blocks.base import Block, EdgeShape, Kernel
from cpnas_cli.networks.layer import Layer, pointwise_layer, reduction_layers

if TYPE_CHECKING:
    from torch import nn

    from cpnas_cli.settings import NetworkConfig


@dataclass(frozen=True)
class Separable(Block):
    """A depthwise separable convolution, see `SeparableConv`; a skip of stride 2 is a `FactorizedReduction`."""

    @staticmethod
    def of(settings: "NetworkConfig") -> "Separable":
        del settings
        return SEPARABLE

    @property
    def convolutions(self) -> str:
        return "separable convolutions (depthwise, dilated and 1x1)"

    @property
    def rectifies(self) -> bool:
        return True

    def build_convolution(self, edge: EdgeShape, kernel: Kernel) -> "nn.Module":
        from cpnas_cli.networks.modules.separable import SeparableConv

        shape = {"stride": edge.stride, "dilation": kernel.dilation}
        return SeparableConv(edge.num_channels, kernel.size, **shape, arithmetic=edge.arithmetic)

    def convolution_layers(self, path: str, edge: EdgeShape, kernel: Kernel, size: int) -> tuple[Layer, ...]:
        channels, out_size, binary = edge.num_channels, size // edge.stride, edge.arithmetic.is_binary
        depthwise = Layer(
            f"{path}.depthwise",
            "convolution",
            channels,
            channels,
            size,
            out_size,
            kernel_size=kernel.size,
            stride=edge.stride,
            dilation=kernel.dilation,
            groups=channels,
            binary=binary,
            ending="threshold" if binary else "nothing",
        )
        return depthwise, pointwise_layer(path, channels, channels, out_size, binary=binary)

    def build_reduction(self, edge: EdgeShape) -> "nn.Module":
        from cpnas_cli.networks.modules.reduction import FactorizedReduction

        return FactorizedReduction(edge.num_channels, edge.num_channels, arithmetic=edge.reduction)

    def reduction_layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        binary = edge.reduction.is_binary
        return reduction_layers(path, edge.num_channels, edge.num_channels, size, binary=binary)


SEPARABLE = Separable()
