"""The layers of a network, one after the other, as plain data.

One list serves the estimate, the packed file (which stores the layers one after the other in this
order) and the engine.

It is a second description beside the modules in `network`, because a device that runs a packed model has no torch,
and a module cannot be made without it. What the two have in common is written once: the shapes of the stack
(`shapes`), the precision of every part (`arithmetic`), and the choices of an operation, which gives its module and its
layers from one object. A test builds networks of random genotypes and settings and holds every layer against the
module of its name, and every module against a layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cpnas_cli.networks.arithmetic import Arithmetics, EdgeShape
from cpnas_cli.networks.layer import Layer, pointwise_layer, reduction_layers
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.networks.shapes import (
    CellShape,
    Precision,
    cell_shapes,
    has_shortcut,
    num_stem_channels,
    stem_kernel_size,
)
from cpnas_cli.search_space import EDGES, NUM_INTERMEDIATE_NODES, Genotype, live_edges
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
    arithmetics = Arithmetics.of(settings, precision)
    first, second = (
        _preprocessing(f"{name}.preprocessing.{index}.convolution", shape, index, size, arithmetics)
        for index, size in enumerate(sizes)
    )
    shortcut, second_shortcut = (
        settings.shortcut and has_shortcut(in_channels, shape.num_channels) for in_channels in shape.in_channels
    )
    edges = tuple(_edge(name, edge, ops[edge], shape, sizes[1], arithmetics) for edge in live_edges(ops))
    return CellLayers(shape, sizes, sizes[1], (first, second), (shortcut, second_shortcut), edges)


def _preprocessing(path: str, shape: CellShape, index: int, size: int, arithmetics: Arithmetics) -> tuple[Layer, ...]:
    in_channels = shape.in_channels[index]
    if shape.halves_input(index):
        return reduction_layers(path, in_channels, shape.num_channels, size, binary=arithmetics.reduction.is_binary)
    binary = arithmetics.preprocessing.is_binary
    return (pointwise_layer(path, in_channels, shape.num_channels, size, binary=binary),)


def _edge(name: str, index: int, op: str, shape: CellShape, size: int, arithmetics: Arithmetics) -> EdgeLayers:
    """`size` is that of the cell's preprocessed inputs."""
    stride = shape.stride(EDGES[index][0])
    edge = EdgeShape(shape.num_channels, stride, arithmetics.edges, arithmetics.reduction)
    in_size = size // 2 if shape.reduces and stride == 1 else size
    layers = operation_of(op).layers(f"{name}.edges.{index}.{op}", edge, in_size)
    return EdgeLayers(index, op, layers)
