"""A layer as plain data: shape, precision, and what of it is stored."""

from dataclasses import dataclass, replace
from typing import Literal

LayerKind = Literal["convolution", "pool", "linear", "ending"]
Pooling = Literal["max", "avg", "halving"]  # halving: the mean over 2x2 pixels

# What follows the sums of a layer and is stored with it.
#   "affine": a batch norm, folded to a scale and a shift per output channel (2 real values)
#   "threshold": a batch norm and the sign behind it: one whole number per output channel
#   "bias": one real value per output channel
#   "nothing"
Ending = Literal["affine", "threshold", "bias", "nothing"]

BITS_PER_REAL = 32
BITS_PER_THRESHOLD = 8
LARGEST_KERNEL = 11  # of a layer with thresholds: 121 signs, whose sums and the one above them fit in 8 bits


@dataclass(frozen=True)
class Layer:
    """One convolution, pooling or linear layer, or the ending of a value; image sizes in pixels, square.

    Attributes:
      name: of the module in the `Network`.
      binary: whether weights and activations are 1-bit.
      pooling: of a pool alone.
      residual: whether what it reads, halved at stride 2, is added to its result.
      num_channel_values: of an ending, real values per channel.
      value_bits, weight_bits: of a stored real value, and of a real weight.
    """

    name: str
    kind: LayerKind
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    kernel_size: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    binary: bool = False
    ending: Ending = "affine"
    pooling: Pooling | None = None
    residual: bool = False
    num_channel_values: int = 0
    value_bits: int = BITS_PER_REAL
    weight_bits: int = BITS_PER_REAL

    @property
    def feeds_next(self) -> bool:
        """Whether its result goes into the next layer of its operation alone, and not into a node."""
        return self.kind == "convolution" and self.ending in ("threshold", "nothing")

    @property
    def padding(self) -> int:
        """Rows and columns beyond the image that the filter reaches: at stride 1 the size stays."""
        return self.dilation * (self.kernel_size - 1) // 2

    @property
    def inputs_per_filter(self) -> int:
        """c: the input channels that one filter reads."""
        return self.in_channels // self.groups

    @property
    def num_weights(self) -> int:
        return (
            0 if self.kind in ("pool", "ending") else self.out_channels * self.inputs_per_filter * self.kernel_size**2
        )

    @property
    def num_binary_weights(self) -> int:
        return self.num_weights if self.binary else 0

    @property
    def num_real_weights(self) -> int:
        return 0 if self.binary else self.num_weights

    @property
    def num_thresholds(self) -> int:
        return self.out_channels if self.ending == "threshold" else 0

    @property
    def num_affine_values(self) -> int:
        """Scales, shifts, biases, and the values of an ending."""
        per_channel = {"affine": 2, "bias": 1, "threshold": 0, "nothing": 0}[self.ending] + self.num_channel_values
        return per_channel * self.out_channels

    @property
    def num_real_values(self) -> int:
        """Weights that are not 1-bit, and `num_affine_values`."""
        return self.num_affine_values + self.num_real_weights

    @property
    def size_bits(self) -> int:
        thresholds = BITS_PER_THRESHOLD * self.num_thresholds
        real = self.weight_bits * self.num_real_weights + self.value_bits * self.num_affine_values
        return self.num_binary_weights + thresholds + real

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, each counted once; taps that fall on the padding count too."""
        return self.num_weights * self.out_size**2


def pointwise_layer(path: str, in_channels: int, out_channels: int, size: int, *, binary: bool) -> Layer:
    """Of a `PointwiseConv` or of the second convolution of a `SeparableConv`."""
    return Layer(f"{path}.pointwise", "convolution", in_channels, out_channels, size, size, binary=binary)


def reduction_layers(path: str, in_channels: int, out_channels: int, size: int, *, binary: bool) -> tuple[Layer, Layer]:
    """Of a `FactorizedReduction`: two convolutions whose results lie side by side."""
    even = Layer(
        f"{path}.even", "convolution", in_channels, out_channels // 2, size, size // 2, stride=2, binary=binary
    )
    return even, replace(even, name=f"{path}.odd", out_channels=out_channels - out_channels // 2)
