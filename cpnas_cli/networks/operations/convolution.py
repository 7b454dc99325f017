"""The convolutions, plain and dilated; what each is made of is the block of the network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.networks.blocks.base import EdgeShape, Kernel
from cpnas_cli.networks.layer import LARGEST_KERNEL, Layer
from cpnas_cli.networks.operations.base import TIMES, Family, Look, Operation

if TYPE_CHECKING:
    from torch import nn

# Okabe and Ito's colours are told apart by colour-blind readers, the dashes also in grey.
_SEPARABLE = Look("separable", "sep: separable convolution", style="green", colour="#0072B2", width=2.0)
_DILATED = Look(
    "dilated", "dil: dilated convolution", style="magenta", colour="#D55E00", width=2.0, dashes=(0, (2.6, 1.1))
)


@dataclass(frozen=True)
class ConvolutionOperation(Operation):
    """A convolution with this kernel, as the network's block makes it."""

    kernel_size: int
    dilation: int = 1

    def __post_init__(self) -> None:
        if self.kernel_size not in range(3, LARGEST_KERNEL + 1, 2):
            raise ValueError(f"{self.name} needs an odd kernel of 3 to {LARGEST_KERNEL} pixels, got {self.kernel_size}")

    @property
    def kernel(self) -> Kernel:
        return Kernel(self.kernel_size, self.dilation)

    @property
    def family(self) -> Family:
        return "convolutions"

    @property
    def look(self) -> Look:
        return _SEPARABLE if self.dilation == 1 else _DILATED

    def build(self, edge: EdgeShape) -> "nn.Module":
        return edge.block.build_convolution(edge, self.kernel)

    def layers(self, path: str, edge: EdgeShape, size: int) -> tuple[Layer, ...]:
        return edge.block.convolution_layers(path, edge, self.kernel, size)


def _operation(kind: str, kernel_size: int, dilation: int) -> ConvolutionOperation:
    size = f"{kernel_size}{TIMES}{kernel_size}"
    name = f"{kind}_conv_{kernel_size}x{kernel_size}"
    return ConvolutionOperation(name, f"{kind}{kernel_size}", f"{kind} {size}", kernel_size, dilation)


def separable(kernel_size: int) -> ConvolutionOperation:
    """sep_conv_KxK."""
    return _operation("sep", kernel_size, 1)


def dilated(kernel_size: int) -> ConvolutionOperation:
    """dil_conv_KxK, whose taps lie 2 pixels apart."""
    return _operation("dil", kernel_size, 2)


SEP_CONV_3X3, SEP_CONV_5X5 = separable(3), separable(5)
DIL_CONV_3X3, DIL_CONV_5X5 = dilated(3), dilated(5)
