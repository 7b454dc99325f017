"""The layers of a network, one after the other, as plain data.

One list serves the estimate, the packed file (which stores the layers one after the other in this
order) and the engine.

It is a second description beside the modules in `network`, because a device that runs a packed model has no torch,
and a module cannot be made without it. What the two have in common is written once: the shapes of the stack
(`shapes`), the precision of every part (`arithmetic`), and the choices of an operation, which gives its module and its
layers from one object. A test builds networks of random genotypes and settings and holds every layer against the
module of its name, and every module against a layer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.blocks.base import block_of
from cpnas_cli.networks.layer import Layer, pointwise_layer, reduction_layers
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.networks.shapes import (
    CellShape,
    Precision,
    cell_shapes,
    has_shortcut,
    stem_kernel_size,
    stem_shapes,
)
from cpnas_cli.search_space import EDGES, NUM_INPUT_NODES, NUM_INTERMEDIATE_NODES, Genotype, live_edges
from cpnas_cli.settings import NetworkConfig


@dataclass(frozen=True)
class Surroundings:
    """What surrounds the cells: the images that go in and the scores that come out."""

    image_size: int
    num_image_channels: int
    num_classes: int


def layers_of(settings: NetworkConfig, genotype: Genotype, shape: Surroundings, *, precision: Precision) -> list[Layer]:
    """Every layer that the network of a genotype computes, from the stem to the classifier."""
    return [
        *stem_layers(settings, shape, precision=precision),
        *(layer for cell in cells_of(settings, genotype, shape, precision=precision) for layer in cell.layers()),
        classifier_layer(settings, shape, precision=precision),
    ]


def stem_layers(settings: NetworkConfig, shape: Surroundings, *, precision: Precision) -> tuple[Layer, ...]:
    """The convolutions of the stem, and the ending of its value where it has one."""
    convolutions, size, channels = list[Layer](), shape.image_size, shape.num_image_channels
    for index, (out_channels, stride) in enumerate(stem_shapes(settings)):
        name = "stem" if settings.stem_convolutions == 1 else f"stem.{index}"
        kernel_size = stem_kernel_size(settings)
        layer = Layer(
            name, "convolution", channels, out_channels, size, size // stride, kernel_size=kernel_size, stride=stride
        )
        convolutions.append(layer)
        size, channels = layer.out_size, out_channels
    ending = block_of(settings).ending_layers("stem_ending", channels, size, binary=precision == "binary")
    return _stored((*convolutions, *ending), settings, precision)


def classifier_layer(settings: NetworkConfig, shape: Surroundings, *, precision: Precision) -> Layer:
    """With a scale per class where its weights are stored as whole numbers."""
    features = NUM_INTERMEDIATE_NODES * cell_shapes(settings)[-1].num_channels
    is_scaled = precision == "binary" and settings.weight_format == "int8"
    layer = Layer("classifier", "linear", features, shape.num_classes, 1, 1, ending="affine" if is_scaled else "bias")
    return _stored((layer,), settings, precision)[0]


_FORMAT_BITS = {"float32": 32, "float16": 16, "int8": 8}


def _stored(layers: Iterable[Layer], settings: NetworkConfig, precision: Precision) -> tuple[Layer, ...]:
    """The layers with the bits of their real values: in the Parent 32 each."""
    if precision == "full":
        return tuple(layers)
    bits = {
        "value_bits": _FORMAT_BITS[settings.real_format],
        "weight_bits": _FORMAT_BITS[settings.weight_format],
    }
    return tuple(replace(layer, **bits) for layer in layers)


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
    """A cell: the layers of its two preprocessings and of its live edges; sizes of its two inputs and its nodes.

    Attributes:
      endings: by node, of the values that have one; a node that nothing reaches has none.
      averages: whether a node is the mean over its edges.
    """

    shape: CellShape
    in_sizes: tuple[int, int]
    size: int  # of the preprocessed inputs
    preprocessing: tuple[tuple[Layer, ...], tuple[Layer, ...]]
    shortcuts: tuple[bool, bool]
    edges: tuple[EdgeLayers, ...]
    endings: Mapping[int, Layer]
    averages: bool = False

    @property
    def out_size(self) -> int:
        return self.size // 2 if self.shape.reduces else self.size

    def layers(self) -> Iterator[Layer]:
        for layers in (*self.preprocessing, *(edge.layers for edge in self.edges), tuple(self.endings.values())):
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
    arithmetics = Arithmetics.of(settings, precision)
    first, second = (
        _stored(
            _preprocessing(f"{name}.preprocessing.{index}.convolution", shape, index, size, arithmetics),
            settings,
            precision,
        )
        for index, size in enumerate(sizes)
    )
    shortcut, second_shortcut = (
        settings.shortcut and has_shortcut(in_channels, shape.num_channels) for in_channels in shape.in_channels
    )
    edges = tuple(
        replace(edge, layers=_stored(edge.layers, settings, precision))
        for edge in (_edge(name, index, ops[index], shape, sizes[1], arithmetics) for index in live_edges(ops))
    )
    endings = dict[int, Layer]()
    for node in [*range(NUM_INPUT_NODES), *sorted({edge.node for edge in edges})]:
        size = sizes[1] // 2 if shape.reduces and node >= NUM_INPUT_NODES else sizes[1]
        path = f"{name}.endings.{node}"
        found = arithmetics.block.ending_layers(path, shape.num_channels, size, binary=arithmetics.is_binary)
        if found:
            (endings[node],) = _stored(found, settings, precision)
    return CellLayers(
        shape, sizes, sizes[1], (first, second), (shortcut, second_shortcut), edges, endings, arithmetics.block.averages
    )


def _preprocessing(path: str, shape: CellShape, index: int, size: int, arithmetics: Arithmetics) -> tuple[Layer, ...]:
    in_channels = shape.in_channels[index]
    if shape.halves_input(index):
        return reduction_layers(path, in_channels, shape.num_channels, size, binary=arithmetics.reduction.is_binary)
    binary = arithmetics.preprocessing.is_binary
    return (pointwise_layer(path, in_channels, shape.num_channels, size, binary=binary),)


def _edge(name: str, index: int, op: str, shape: CellShape, size: int, arithmetics: Arithmetics) -> EdgeLayers:
    """`size` is that of the cell's preprocessed inputs."""
    stride = shape.stride(EDGES[index][0])
    edge = arithmetics.edge(shape.num_channels, stride=stride)
    in_size = size // 2 if shape.reduces and stride == 1 else size
    layers = operation_of(op).layers(f"{name}.edges.{index}.{op}", edge, in_size)
    return EdgeLayers(index, op, layers)
