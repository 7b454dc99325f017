"""From a packed model to its program."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cpnas_cli.deploy.engine.builder import ProgramBuilder
from cpnas_cli.deploy.engine.layout import LANES, num_blocks, whole_vectors
from cpnas_cli.deploy.engine.program import (
    BLOCKS,
    CHANNELS,
    CLASSIFY,
    CONCATENATE,
    FIRST_SOURCE,
    FIRST_STEM,
    FIRST_STEP,
    NUM_SIGN_WORDS,
    NUM_STEPS,
    OUT,
    PIXEL,
    RECTIFY,
    SIGNS,
    SIGNS_PLANE,
    SIGNS_ROW,
    SIZE,
    STEM,
    STEPS,
    STORE,
    Program,
    Values,
    Words,
)
from cpnas_cli.deploy.packed_file import PackedModel, unpack_layers
from cpnas_cli.networks.blocks.base import block_of
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import CellLayers, EdgeLayers, cells_of, classifier_layer, stem_layers
from cpnas_cli.networks.stem_arithmetic import largest_step_of
from cpnas_cli.search_space import NUM_INPUT_NODES, NUM_NODES


@dataclass(frozen=True)
class _Image:
    """What a cell reads: real values and their signs."""

    values: Values
    signs: Words
    channels: int


def compile_program(model: PackedModel) -> Program:
    """The program that computes the logits of one image."""
    compiler = _Compiler(model)
    stem = compiler.stem()
    inputs = (stem, stem)
    for index, cell in enumerate(cells_of(model.settings, model.genotype, model.surroundings, precision="binary")):
        inputs = inputs[1], compiler.cell(index, cell, inputs)
    return compiler.finish(head=compiler.classifier(inputs[1]))


def compile_empty_node(model: PackedModel, cell: CellLayers) -> Program:
    """A program of a node that nothing enters, like `compile_edge`: what a node takes beside its edges."""
    compiler, channels = _Compiler(model), cell.shape.num_channels
    builder = compiler.builder
    values = builder.values("node", pixel=whole_vectors(channels), size=cell.out_size)
    signs = builder.words("node", channels=channels, size=cell.out_size, border=0)
    builder.node([], values, channels=channels, signs=signs, shift=None)
    return compiler.finish()


def compile_edge(model: PackedModel, cell: CellLayers, edge: EdgeLayers) -> Program:
    """A program of one edge alone, on whatever is in memory: to measure it."""
    compiler, channels = _Compiler(model), cell.shape.num_channels
    builder = compiler.builder
    size = cell.size if edge.source < NUM_INPUT_NODES else cell.out_size
    source = _Image(
        builder.values("source", pixel=whole_vectors(channels), size=size),
        builder.words("source", channels=channels, size=size, border=_border(cell, edge.source)),
        channels,
    )
    steps = compiler.edges([edge], {edge.source: source}, channels)
    pixel = whole_vectors(max(channels, _reach(edge.layers)))
    values = builder.values("node", pixel=pixel, size=cell.out_size)
    signs = builder.words("node", channels=channels, size=cell.out_size, border=0)
    builder.node(steps, values, channels=channels, signs=signs, shift=None)
    return compiler.finish()


def compile_preprocessing(model: PackedModel, cell: CellLayers, number: int) -> Program:
    """A program of one preprocessing alone, like `compile_edge`."""
    compiler = _Compiler(model)
    channels, size = cell.shape.in_channels[number], cell.in_sizes[number]
    source = _Image(
        compiler.builder.values("source", pixel=whole_vectors(channels), size=size),
        compiler.builder.words("source", channels=channels, size=size, border=0),
        channels,
    )
    compiler.preprocessing(cell, number, source)
    return compiler.finish()


class _Compiler:
    """Makes instructions of a model's parts, one after the other."""

    def __init__(self, model: PackedModel) -> None:
        self.model, self.builder, self.arrays = model, ProgramBuilder(), unpack_layers(model)
        self.rectifies = block_of(model.settings).rectifies

    def finish(self, *, head: tuple[int, ...] = ()) -> Program:
        builder = self.builder
        steps, products = builder.tables()
        return Program(
            instructions=np.array(builder.instructions, np.int64),
            steps=steps,
            products=products,
            table=np.array(builder.table, np.int64),
            constants=builder.constants.array(),
            reals=builder.reals.array(),
            doubles=builder.doubles.array(),
            num_values=builder.value_memory.size,
            num_words=builder.word_memory.size + builder.slot_memory.size,
            num_doubles=builder.double_memory.size,
            num_slot_words=builder.slot_memory.size,
            stem=tuple(builder.stem),
            head=head,
        )

    # ---------------------------------------------------------------- the ends

    def stem(self) -> _Image:
        """Its convolutions; each leaves the padded image that the next one reads, the last one values and signs."""
        model, builder = self.model, self.builder
        layers = stem_layers(model.settings, model.surroundings, precision="binary")
        convolutions = [layer for layer in layers if layer.kind == "convolution"]
        is_whole = model.settings.weight_format == "int8"
        last = convolutions[-1]
        values = builder.values("stem", pixel=whole_vectors(last.out_channels), size=last.out_size)
        signs = builder.words("stem", channels=last.out_channels, size=last.out_size, border=0)
        steps, shift = self._ending(layers[len(convolutions)] if len(layers) > len(convolutions) else None)
        images = [self._stem_image(index, layer, is_whole=is_whole) for index, layer in enumerate(convolutions)]
        for index, layer in enumerate(convolutions):
            own, (source, pixel, _, _) = self.arrays[layer.name], images[index]
            following = images[index + 1] if layer is not last else (-1, 0, 0, 0)
            first_stem = len(builder.stem)
            if is_whole:
                weights, runs, pairs = builder.whole_filters(own.weights, joined=pixel == layer.in_channels)
            else:
                weights, runs, pairs = builder.real_filters(own.weights), 0, 0
            builder.stem += [
                layer.in_size,
                layer.in_channels,
                layer.kernel_size,
                layer.stride,
                weights,
                builder.channels(own.scale),
                builder.channels(own.shift),
                int(is_whole),
                source,
                pixel,
                *following,
                STORE if layer is last else STEPS if is_whole else RECTIFY,
                int(index == 0),
                runs,
                pairs,
            ]
            columns = {FIRST_STEM: first_stem, SIZE: layer.out_size, BLOCKS: num_blocks(layer.out_channels)}
            written, num_rows = list[Values | Words](), 0
            if layer is last:
                written, num_rows = [values, signs], layer.out_size
                columns |= {OUT: values.offset, PIXEL: values.pixel, FIRST_STEP: len(builder.steps)}
                columns |= {NUM_STEPS: len(steps), **builder.signs_columns(signs, layer.out_channels, shift)}
                builder.steps += steps
            builder.instruction(STEM, columns, num_rows=num_rows, writes=written)
        return _Image(values, signs, last.out_channels)

    def _stem_image(self, index: int, layer: Layer, *, is_whole: bool) -> tuple[int, int, int, int]:
        """The padded image that a convolution of the stem reads: its offset, values from a pixel and from a row to the
        next, and the largest whole number in it.
        """
        size = layer.in_size + 2 * (layer.kernel_size // 2)
        pixel = layer.in_channels if index == 0 else whole_vectors(layer.in_channels)
        if is_whole:  # two to a word; a vector reaches as far behind the last one as in the other memory
            offset = 2 * self.builder.word_memory.region(("image", index), (size**2 * pixel + 1) // 2)
        else:
            offset = self.builder.double_memory.region(("image", index), size**2 * pixel)
        return offset, pixel, size * pixel, largest_step_of(layer, is_image=index == 0)

    def classifier(self, features: _Image) -> tuple[int, ...]:
        builder = self.builder
        layer = classifier_layer(self.model.settings, self.model.surroundings, precision="binary")
        own = self.arrays[layer.name]
        weights = own.weights[:, :, 0, 0] * (own.scale[:, None] if layer.ending == "affine" else np.float32(1))
        builder.instruction(CLASSIFY, {})
        return (
            features.values.offset,
            features.values.pixel,
            features.values.size**2,
            layer.in_channels,
            builder.channels(np.pad(weights, ((0, 0), (0, -layer.in_channels % LANES)))),
            builder.channels(own.shift),
            builder.value_memory.region("features", whole_vectors(layer.in_channels)),
            layer.out_channels,
        )

    # ---------------------------------------------------------------- a cell

    def cell(self, index: int, cell: CellLayers, inputs: tuple[_Image, _Image]) -> _Image:
        builder, channels = self.builder, cell.shape.num_channels
        nodes = dict[int, _Image]()
        builder.gathered.clear()  # of the nodes of the cell before, in whose place those of this one come
        for number in range(NUM_INPUT_NODES):
            nodes[number] = self.preprocessing(cell, number, inputs[number])
        # a node's last vector reaches into the next node's channels, which are written later, and behind the last one
        reach = max((_reach(edge.layers) for edge in cell.edges), default=0)
        pixel = whole_vectors(3 * channels + max(whole_vectors(channels), reach))
        output = builder.values(("cell", index % 3), pixel=pixel, size=cell.out_size)
        for number in range(NUM_INPUT_NODES, NUM_NODES):
            place = (number - NUM_INPUT_NODES) * channels
            values = output._replace(offset=output.offset + place)
            signs = builder.words(number, channels=channels, size=cell.out_size, border=_border(cell, number))
            edges = [edge for edge in cell.edges if edge.node == number]
            steps = self.edges(edges, nodes, channels)
            num_edges = len(edges) if cell.averages else 1
            ending, shift = self._ending(cell.endings.get(number), num_edges=num_edges)
            builder.node([*steps, *ending], values, channels=channels, signs=signs, shift=shift)
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
        builder.instruction(CONCATENATE, columns, num_rows=cell.out_size, writes=[signs])
        return _Image(output, signs, 4 * channels)

    def preprocessing(self, cell: CellLayers, number: int, source: _Image) -> _Image:
        builder, channels, layers = self.builder, cell.shape.num_channels, cell.preprocessing[number]
        values = builder.values(("input", number), pixel=whole_vectors(_reach(layers)), size=cell.size)
        signs = builder.words(number, channels=channels, size=cell.size, border=_border(cell, number))
        steps = self._pointwise(layers, source, keep=False)
        if cell.shortcuts[number]:
            halves, num_groups = layers[0].stride == 2, source.channels // channels
            shape = {"halves": halves, "num_groups": num_groups, "channels": channels}
            steps.append(builder.shortcut(source.values, **shape, keep=True))
        ending, shift = self._ending(cell.endings.get(number))
        builder.node([*steps, *ending], values, channels=channels, signs=signs, shift=shift)
        return _Image(values, signs, channels)

    def _ending(self, layer: Layer | None, *, num_edges: int = 1) -> tuple[list[list[int]], np.ndarray | None]:
        """The steps of an ending, and what it adds before the sign.

        Args:
          num_edges: over which the value is to be the mean; their sum is there.
        """
        values = np.zeros((0, 0), np.float32) if layer is None else self.arrays[layer.name].ending
        shift = values[-1] if len(values) and self.model.settings.sign_shift else None
        activation = values[: len(values) - (shift is not None)]
        has_steps = len(activation) > 0 or num_edges > 1
        return [self.builder.ending(activation, num_edges=num_edges)] if has_steps else [], shift

    def _pointwise(self, layers: Sequence[Layer], source: _Image, *, keep: bool) -> list[list[int]]:
        """A 1x1 convolution, or the two of a factorized reduction, whose results lie side by side."""
        builder, steps, channel = self.builder, list[list[int]](), 0
        for index, layer in enumerate(layers):
            own = self.arrays[layer.name]
            if layer.binary:
                builder.product(layer, own, source.signs, first=index)
                first = len(builder.products) - 1
                steps.append(
                    builder.add_products(first, out_channels=layer.out_channels, out_channel=channel, keep=keep)
                )
            else:
                place = {"first": index, "out_channel": channel}
                steps.append(
                    builder.real_product(layer, own, source.values, **place, keep=keep, rectifies=self.rectifies)
                )
            channel += layer.out_channels
        return steps

    def edges(self, edges: Sequence[EdgeLayers], nodes: dict[int, _Image], channels: int) -> list[list[int]]:
        """The steps of a node, in the order of its sum; separable convolutions in a row are added up in one step."""
        builder, steps = self.builder, list[list[int]]()
        run: int | None = None  # the first product of the separable convolutions that are not added up yet
        keep = False
        for edge in edges:
            source = nodes[edge.source]
            if edge.layers and edge.layers[0].feeds_next:
                depthwise, pointwise = edge.layers
                run = len(builder.products) if run is None else run
                slot = builder.slot(len(builder.products) - run, depthwise)
                steps.append(builder.depthwise(depthwise, self.arrays[depthwise.name], source.signs, slot))
                builder.product(pointwise, self.arrays[pointwise.name], slot)
                continue
            if run is not None:
                steps.append(builder.add_products(run, out_channels=channels, keep=keep))
                run, keep = None, True
            steps += self._other_edge(edge, source, channels, keep=keep)
            keep = True
        if run is not None:
            steps.append(builder.add_products(run, out_channels=channels, keep=keep))
        return steps

    def _other_edge(self, edge: EdgeLayers, source: _Image, channels: int, *, keep: bool) -> list[list[int]]:
        """Of an edge that is no separable convolution."""
        builder = self.builder
        if not edge.layers:
            return [builder.identity(source.values, keep=keep)]
        layer = edge.layers[0]
        if layer.residual:
            return [builder.grouped(layer, self.arrays[layer.name], source.signs, source.values, keep=keep)]
        if layer.pooling == "halving":
            return [builder.shortcut(source.values, halves=True, num_groups=1, channels=channels, keep=keep)]
        if layer.pooling is not None:
            is_max = layer.pooling == "max"
            return [builder.pool(layer, self.arrays[layer.name], source.values, is_max=is_max, keep=keep)]
        return self._pointwise(edge.layers, source, keep=keep)


def _reach(layers: Sequence[Layer]) -> int:
    """Up to which value of a pixel the vectors reach that hold results side by side; else those of the last layer.

    The last one of the first half reaches into the second half, which is written later, and that one behind it.
    """
    if not layers:
        return 0
    is_reduction = len(layers) == 2 and not layers[0].feeds_next
    begin = layers[0].out_channels if is_reduction else 0
    return max(whole_vectors(layers[0].out_channels), begin + whole_vectors(layers[-1].out_channels))


def _border(cell: CellLayers, node: int) -> int:
    """How far beyond the image the convolutions look that read this node."""
    read = [edge.layers[0] for edge in cell.edges if edge.source == node and edge.layers]
    return max((layer.padding for layer in read if layer.feeds_next or layer.residual), default=0)
