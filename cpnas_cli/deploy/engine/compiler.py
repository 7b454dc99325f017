"""From a packed model to its program."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cpnas_cli.deploy.engine.lanes import LANES
from cpnas_cli.deploy.engine.program import (
    BLOCKS,
    CHANNELS,
    CLASSIFY,
    CONCATENATE,
    FIRST_SOURCE,
    NUM_SIGN_WORDS,
    OUT,
    PIXEL,
    SIGNS,
    SIGNS_PLANE,
    SIGNS_ROW,
    SIZE,
    STEM,
    Program,
    ProgramBuilder,
    Values,
    Words,
    num_blocks,
    whole_vectors,
)
from cpnas_cli.deploy.packed_file import LayerArrays, PackedModel, unpack_layers
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import CellLayers, EdgeLayers, cells_of, classifier_layer, stem_layer
from cpnas_cli.search_space import NUM_INPUT_NODES, NUM_NODES


@dataclass(frozen=True)
class _Image:
    """What a cell reads: real values and their signs."""

    values: Values
    signs: Words
    channels: int


def compile_program(model: PackedModel) -> Program:
    """The program that computes the logits of one image."""
    builder, arrays = ProgramBuilder(), unpack_layers(model)
    stem, stem_values = _stem(builder, model, arrays)
    inputs = (stem_values, stem_values)
    for index, cell in enumerate(cells_of(model.settings, model.genotype, model.surroundings, precision="binary")):
        output = _cell(builder, index, cell, inputs, arrays)
        inputs = (inputs[1], output)
    head = _classifier(builder, model, arrays, inputs[1])
    return _finish(builder, stem, head)


def compile_edge(cell: CellLayers, edge: EdgeLayers, arrays: dict[str, LayerArrays]) -> Program:
    """A program of one edge alone, on whatever is in memory: to measure it."""
    builder, channels = ProgramBuilder(), cell.shape.num_channels
    size = cell.size if edge.source < NUM_INPUT_NODES else cell.out_size
    source = _Image(
        builder.values("source", pixel=whole_vectors(channels) + LANES, size=size),
        builder.words("source", channels=channels, size=size, border=_border(cell, edge.source)),
        channels,
    )
    steps = _edges(builder, [edge], {edge.source: source}, channels, arrays)
    values = builder.values("node", pixel=whole_vectors(channels) + LANES, size=cell.out_size)
    signs = builder.words("node", channels=channels, size=cell.out_size, border=0)
    builder.node(steps, values, channels=channels, signs=signs)
    return _finish(builder, (), ())


def compile_preprocessing(cell: CellLayers, number: int, arrays: dict[str, LayerArrays]) -> Program:
    """A program of one preprocessing alone, like `compile_edge`."""
    builder = ProgramBuilder()
    channels, size = cell.shape.in_channels[number], cell.in_sizes[number]
    source = _Image(
        builder.values("source", pixel=whole_vectors(channels + LANES - 1), size=size),
        builder.words("source", channels=channels, size=size, border=0),
        channels,
    )
    _preprocessing(builder, cell, number, source, arrays)
    return _finish(builder, (), ())


def _finish(builder: ProgramBuilder, stem: tuple[int, ...], head: tuple[int, ...]) -> Program:
    return Program(
        instructions=np.array(builder.instructions, np.int64),
        steps=np.array(builder.steps, np.int64),
        products=np.array(builder.products, np.int64),
        table=np.array(builder.table, np.int64),
        constants=builder.constants.array(),
        reals=builder.reals.array(),
        doubles=builder.doubles.array(),
        num_values=builder.value_memory.size,
        num_words=builder.word_memory.size,
        num_doubles=builder.double_memory.size,
        stem=stem,
        head=head,
    )


def _stem(
    builder: ProgramBuilder, model: PackedModel, arrays: dict[str, LayerArrays]
) -> tuple[tuple[int, ...], _Image]:
    layer = stem_layer(model.settings, model.surroundings)
    own = arrays[layer.name]
    values = builder.values("stem", pixel=whole_vectors(layer.out_channels), size=layer.out_size)
    signs = builder.words("stem", channels=layer.out_channels, size=layer.out_size, border=0)
    columns = {OUT: values.offset, PIXEL: values.pixel, SIZE: values.size, BLOCKS: num_blocks(layer.out_channels)}
    columns |= builder.signs_columns(signs, layer.out_channels)
    builder.instruction(STEM, columns)
    padded = layer.in_size + 2 * (layer.kernel_size // 2)
    place = builder.double_memory.region("image", padded**2 * layer.in_channels)
    assert place == 0, "the padded image is where the engine expects it"
    stem = (
        layer.in_size,
        layer.in_channels,
        layer.kernel_size,
        layer.stride,
        builder.real_filters(own.weights),
        builder.channels(own.scale),
        builder.channels(own.shift),
    )
    return stem, _Image(values, signs, layer.out_channels)


def _classifier(
    builder: ProgramBuilder, model: PackedModel, arrays: dict[str, LayerArrays], features: _Image
) -> tuple[int, ...]:
    layer = classifier_layer(model.settings, model.surroundings)
    own = arrays[layer.name]
    builder.instruction(CLASSIFY, {})
    return (
        features.values.offset,
        features.values.pixel,
        features.values.size**2,
        layer.in_channels,
        builder.channels(np.pad(own.weights[:, :, 0, 0], ((0, 0), (0, -layer.in_channels % LANES)))),
        builder.channels(own.shift),
        builder.value_memory.region("features", whole_vectors(layer.in_channels)),
        layer.out_channels,
    )


def _cell(
    builder: ProgramBuilder,
    index: int,
    cell: CellLayers,
    inputs: tuple[_Image, _Image],
    arrays: dict[str, LayerArrays],
) -> _Image:
    channels = cell.shape.num_channels
    nodes = dict[int, _Image]()
    for number in range(NUM_INPUT_NODES):
        nodes[number] = _preprocessing(builder, cell, number, inputs[number], arrays)
    # a node's last vector reaches into the next node's channels, which are written later, and behind the last one
    pixel = whole_vectors(4 * channels + LANES - 1)
    output = builder.values(("cell", index % 3), pixel=pixel, size=cell.out_size)
    for number in range(NUM_INPUT_NODES, NUM_NODES):
        place = (number - NUM_INPUT_NODES) * channels
        values = output._replace(offset=output.offset + place)
        signs = builder.words(number, channels=channels, size=cell.out_size, border=_border(cell, number))
        edges = [edge for edge in cell.edges if edge.node == number]
        steps = _edges(builder, edges, nodes, channels, arrays)
        builder.node(steps, values, channels=channels, signs=signs)
        nodes[number] = _Image(values, signs, channels)
    signs = builder.words(("cell", index % 3), channels=4 * channels, size=cell.out_size, border=0)
    columns = {
        SIZE: cell.out_size,
        FIRST_SOURCE: len(builder.table),
        CHANNELS: channels,
        SIGNS: signs.offset,
        SIGNS_ROW: signs.row,
        SIGNS_PLANE: signs.plane,
        NUM_SIGN_WORDS: signs.num_words,
    }
    for number in range(NUM_INPUT_NODES, NUM_NODES):
        own = nodes[number].signs
        builder.table += [own.offset, own.row, own.plane]
    builder.instruction(CONCATENATE, columns)
    return _Image(output, signs, 4 * channels)


def _border(cell: CellLayers, node: int) -> int:
    """How far beyond the image the depthwise convolutions look that read this node."""
    read = [edge.layers[0] for edge in cell.edges if edge.source == node and edge.layers]
    return max((layer.padding for layer in read if layer.groups > 1), default=0)


def _preprocessing(
    builder: ProgramBuilder, cell: CellLayers, number: int, source: _Image, arrays: dict[str, LayerArrays]
) -> _Image:
    channels, layers = cell.shape.num_channels, cell.preprocessing[number]
    values = builder.values(("input", number), pixel=whole_vectors(channels) + LANES, size=cell.size)
    signs = builder.words(number, channels=channels, size=cell.size, border=_border(cell, number))
    steps = _pointwise(builder, layers, source, arrays, keep=False)
    if cell.shortcuts[number]:
        halves = layers[0].stride == 2
        num_groups = source.channels // channels
        steps.append(builder.shortcut(source.values, halves=halves, num_groups=num_groups, channels=channels))
    builder.node(steps, values, channels=channels, signs=signs)
    return _Image(values, signs, channels)


def _pointwise(
    builder: ProgramBuilder, layers: Sequence[Layer], source: _Image, arrays: dict[str, LayerArrays], *, keep: bool
) -> list[list[int]]:
    """A 1x1 convolution, or the two of a factorized reduction, whose results lie side by side."""
    steps, channel = list[list[int]](), 0
    for index, layer in enumerate(layers):
        own = arrays[layer.name]
        place = {"out_channel": channel, "keep": keep}
        if layer.binary:
            builder.product(layer, own, source.signs, first=index)
            first = len(builder.products) - 1
            steps.append(builder.add_products(first, out_channels=layer.out_channels, **place))
        else:
            steps.append(builder.real_product(layer, own, source.values, first=index, **place))
        channel += layer.out_channels
    return steps


def _edges(
    builder: ProgramBuilder,
    edges: Sequence[EdgeLayers],
    nodes: dict[int, _Image],
    channels: int,
    arrays: dict[str, LayerArrays],
) -> list[list[int]]:
    """The steps of a node, in the order of its sum; separable convolutions in a row are added up in one step."""
    steps = list[list[int]]()
    run: int | None = None  # the first product of the separable convolutions that are not added up yet
    keep = False

    def end_run() -> None:
        nonlocal run, keep
        if run is not None:
            steps.append(builder.add_products(run, out_channels=channels, keep=keep))
            run, keep = None, True

    for edge in edges:
        source = nodes[edge.source]
        if edge.layers and edge.layers[0].feeds_next:
            depthwise, pointwise = edge.layers
            run = len(builder.products) if run is None else run
            slot = builder.slot(len(builder.products) - run, depthwise)
            steps.append(builder.depthwise(depthwise, arrays[depthwise.name], source.signs, slot))
            builder.product(pointwise, arrays[pointwise.name], slot)
            continue
        end_run()
        if edge.layers and edge.layers[0].pooling is not None:
            (layer,) = edge.layers
            is_max = layer.pooling == "max"
            steps.append(builder.pool(layer, arrays[layer.name], source.values, is_max=is_max, keep=keep))
        elif edge.layers:
            steps += _pointwise(builder, edge.layers, source, arrays, keep=keep)
        else:
            steps.append(builder.identity(source.values, keep=keep))
        keep = True
    end_run()
    return steps
