"""The layers of a network as plain data: shapes, precision, and what of each is stored.

One list serves the estimate, the packed file (which stores the layers one after the other in this
order) and the engine.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from cpnas_cli.networks.shapes import CellShape, Precision, cell_shapes, num_stem_channels, stem_kernel_size
from cpnas_cli.search_space import EDGES, NUM_INTERMEDIATE_NODES, Genotype, live_edges
from cpnas_cli.settings import NetworkConfig

Kind = Literal["convolution", "pool", "linear"]

# What follows the sums of a layer and is stored with it.
#   "affine": a batch norm, folded to a scale and a shift per output channel (2 real values)
#   "threshold": a batch norm and the sign behind it: one whole number per output channel
#   "bias": one real value per output channel
#   "nothing"
Ending = Literal["affine", "threshold", "bias", "nothing"]

BITS_PER_REAL = 32
BITS_PER_THRESHOLD = 8  # a sum of at most 25 signs


@dataclass(frozen=True)
class Layer:
    """One convolution, pooling or linear layer; image sizes in pixels, square.

    Attributes:
      name: of the module in the `Network`.
      binary: whether weights and activations are 1-bit.
    """

    name: str
    kind: Kind
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
        return 0 if self.kind == "pool" else self.out_channels * self.inputs_per_filter * self.kernel_size**2

    @property
    def num_binary_weights(self) -> int:
        return self.num_weights if self.binary else 0

    @property
    def num_thresholds(self) -> int:
        return self.out_channels if self.ending == "threshold" else 0

    @property
    def num_real_values(self) -> int:
        """Weights that are not 1-bit, scales, shifts, biases."""
        ending = {"affine": 2, "bias": 1, "threshold": 0, "nothing": 0}[self.ending] * self.out_channels
        return ending + (0 if self.binary else self.num_weights)

    @property
    def size_bits(self) -> int:
        thresholds = BITS_PER_THRESHOLD * self.num_thresholds
        return self.num_binary_weights + thresholds + BITS_PER_REAL * self.num_real_values

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image, each counted once; taps that fall on the padding count too."""
        return self.num_weights * self.out_size**2


@dataclass(frozen=True)
class Surroundings:
    """What surrounds the cells: the images that go in and the scores that come out."""

    image_size: int
    num_image_channels: int
    num_classes: int


def layers_of(settings: NetworkConfig, genotype: Genotype, shape: Surroundings, *, precision: Precision) -> list[Layer]:
    """Every layer that the network of a genotype computes, from the stem to the classifier."""
    return [
        stem_layer(settings, shape),
        *(layer for cell in cells_of(settings, genotype, shape, precision=precision) for layer in cell.layers()),
        classifier_layer(settings, shape),
    ]


def stem_layer(settings: NetworkConfig, shape: Surroundings) -> Layer:
    return Layer(
        "stem",
        "convolution",
        shape.num_image_channels,
        num_stem_channels(settings),
        shape.image_size,
        shape.image_size // settings.stem_stride,
        kernel_size=stem_kernel_size(settings),
        stride=settings.stem_stride,
    )


def classifier_layer(settings: NetworkConfig, shape: Surroundings) -> Layer:
    features = NUM_INTERMEDIATE_NODES * cell_shapes(settings)[-1].num_channels
    return Layer("classifier", "linear", features, shape.num_classes, 1, 1, ending="bias")


@dataclass(frozen=True)
class EdgeLayers:
    """A live edge: its operation and that operation's layers; an identity has none."""

    index: int
    op: str
    layers: tuple[Layer, ...]

    @property
    def source(self) -> int:
        return EDGES[self.index][0]

    @property
    def node(self) -> int:
        return EDGES[self.index][1]


@dataclass(frozen=True)
class CellLayers:
    """A cell: the layers of its two preprocessings and of its live edges; sizes of its two inputs and its nodes."""

    shape: CellShape
    in_sizes: tuple[int, int]
    size: int  # of the preprocessed inputs
    preprocessing: tuple[tuple[Layer, ...], tuple[Layer, ...]]
    shortcuts: tuple[bool, bool]
    edges: tuple[EdgeLayers, ...]

    @property
    def out_size(self) -> int:
        return self.size // 2 if self.shape.reduces else self.size

    def layers(self) -> Iterator[Layer]:
        for layers in (*self.preprocessing, *(edge.layers for edge in self.edges)):
            yield from layers


def cells_of(
    settings: NetworkConfig, genotype: Genotype, shape: Surroundings, *, precision: Precision
) -> list[CellLayers]:
    choices, cells = genotype.cells(), list[CellLayers]()
    size = shape.image_size // settings.stem_stride
    sizes = (size, size)
    for index, cell in enumerate(cell_shapes(settings)):
        built = _cell(f"cells.{index}", settings, choices[cell.kind], cell, sizes, precision)
        cells.append(built)
        sizes = (sizes[1], built.out_size)
    return cells


def _cell(
    name: str,
    settings: NetworkConfig,
    ops: tuple[str, ...],
    shape: CellShape,
    sizes: tuple[int, int],
    precision: Precision,
) -> CellLayers:
    child = precision == "binary"
    pointwise_binary = child and "preprocessing" not in settings.real_parts
    reduction_binary = child and "factorized_reduction" not in settings.real_parts
    preprocessing, shortcuts = list[tuple[Layer, ...]](), list[bool]()
    for index, (in_channels, in_size) in enumerate(zip(shape.in_channels, sizes, strict=True)):
        path = f"{name}.preprocessing.{index}.convolution"
        if index == 0 and shape.previous_reduces:
            layers = _reduction(path, in_channels, shape.num_channels, in_size, binary=reduction_binary)
        else:
            layers = (_pointwise(path, in_channels, shape.num_channels, in_size, binary=pointwise_binary),)
        preprocessing.append(layers)
        shortcuts.append(settings.shortcut and in_channels % shape.num_channels == 0)
    edges = tuple(
        EdgeLayers(
            edge,
            ops[edge],
            _operation(
                f"{name}.edges.{edge}.{ops[edge]}",
                ops[edge],
                shape.num_channels,
                shape.stride(EDGES[edge][0]),
                sizes[1] if shape.stride(EDGES[edge][0]) == 2 or not shape.reduces else sizes[1] // 2,
                child=child,
                reduction_binary=reduction_binary,
            ),
        )
        for edge in live_edges(ops)
    )
    return CellLayers(shape, sizes, sizes[1], (preprocessing[0], preprocessing[1]), (shortcuts[0], shortcuts[1]), edges)


def _pointwise(path: str, in_channels: int, out_channels: int, size: int, *, binary: bool) -> Layer:
    return Layer(f"{path}.pointwise", "convolution", in_channels, out_channels, size, size, binary=binary)


def _reduction(path: str, in_channels: int, out_channels: int, size: int, *, binary: bool) -> tuple[Layer, ...]:
    even = Layer(
        f"{path}.even", "convolution", in_channels, out_channels // 2, size, size // 2, stride=2, binary=binary
    )
    return even, replace(even, name=f"{path}.odd", out_channels=out_channels - out_channels // 2)


def _operation(
    path: str, op: str, num_channels: int, stride: int, size: int, *, child: bool, reduction_binary: bool
) -> tuple[Layer, ...]:
    out_size = size // stride
    if op == "skip_connect":
        return () if stride == 1 else _reduction(path, num_channels, num_channels, size, binary=reduction_binary)
    if op.endswith("_pool_3x3"):
        return (Layer(path, "pool", num_channels, num_channels, size, out_size, kernel_size=3, stride=stride),)
    depthwise = Layer(
        f"{path}.depthwise",
        "convolution",
        num_channels,
        num_channels,
        size,
        out_size,
        kernel_size=int(op[-1]),
        stride=stride,
        dilation=2 if op.startswith("dil") else 1,
        groups=num_channels,
        binary=child,
        ending="threshold" if child else "nothing",
    )
    return depthwise, _pointwise(path, num_channels, num_channels, out_size, binary=child)
