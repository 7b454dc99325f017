"""From a packed model to what its C program computes: one function for each value, with constants and memory.

A value is what the stem, a preprocessing or a node of a cell gives. Its function goes row by row: the steps add up, in
the order of the network in PyTorch, then the row's signs are packed. What nothing reads is left out.
"""

from collections.abc import Sequence

import numpy as np

from cpnas_cli.deploy.c_source.constants import literal
from cpnas_cli.deploy.c_source.layout import blocks_of_filters, meaning_of_bytes
from cpnas_cli.deploy.c_source.memory import Buffer
from cpnas_cli.deploy.c_source.steps import StepWriter
from cpnas_cli.deploy.c_source.writing import Rows, Value, Written
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import CellLayers, EdgeLayers, cells_of, classifier_layer, stem_layers
from cpnas_cli.networks.stem_arithmetic import largest_step_of
from cpnas_cli.search_space import NUM_INPUT_NODES, NUM_NODES


def write_network(model: PackedModel) -> Written:
    """See the module's text."""
    writer = _NetworkWriter(model)
    stem = writer.stem()
    inputs: tuple[list[Value], list[Value]] = ([stem], [stem])
    for index, cell in enumerate(cells_of(model.settings, model.genotype, model.surroundings, precision="binary")):
        inputs = inputs[1], writer.cell(f"cell{index}", cell, inputs)
    writer.classifier(inputs[1])
    return writer.finish()


class _NetworkWriter(StepWriter):
    """Walks the layers."""

    # ---------------------------------------------------------------- the ends

    def stem(self) -> Value:
        layers = stem_layers(self.model.settings, self.model.surroundings, precision="binary")
        convolutions = [layer for layer in layers if layer.kind == "convolution"]
        ending = layers[len(convolutions)] if len(layers) > len(convolutions) else None
        is_whole = self.model.settings.weight_format == "int8"
        self.out.kernels.add("whole_stem" if is_whole else "real_stem")
        before: Buffer | None = None
        for index, layer in enumerate(convolutions[:-1]):
            following = convolutions[index + 1]
            size = layer.out_channels * layer.out_size**2
            buffer = self.buffer(f"stem{index}", "bytes" if is_whole else "values", size)
            place = f"{buffer.name} + y * {layer.out_channels * layer.out_size}"
            largest = literal(np.float32(largest_step_of(following, is_image=False)))
            line = self._stem_row(index, layer, before, is_whole=is_whole)
            tail = f"0, {place}, {largest}" if is_whole else f"{place}, 1"
            self.emit(
                f"stem_convolution{index}",
                [f"for (y = 0; y < {layer.out_size}; ++y) {{", f"    {line}, {tail});", "}"],
                "image" if index == 0 else "",
            )
            before = buffer
        last = convolutions[-1]
        value = self.new_value("stem", last.out_channels, last.out_size, keeps_values=True, keeps_signs=True)
        rows = Rows(value)
        line = self._stem_row(len(convolutions) - 1, last, before, is_whole=is_whole)
        rows.add(f"{line}, {'out, 0, 0.0f' if is_whole else 'out, 0'});")
        shift = self.ending(rows, ending)
        self.function(rows, shift, keeps_values=True)
        if len(convolutions) == 1:  # it reads the image itself
            self.out.functions[-1] = self.out.functions[-1].replace("(void)", "(const uint8_t *image)", 1)
            self.out.calls[-1] = self.out.calls[-1].replace("stem();", "stem(image);", 1)
        return value

    def _stem_row(self, index: int, layer: Layer, before: Buffer | None, *, is_whole: bool) -> str:
        """The beginning of the call that computes a row of a convolution."""
        name, own = f"stem{index}_convolution", self.arrays[layer.name]
        filters = blocks_of_filters(own.weights, self.lanes)
        meaning = "0"
        if before is None:
            meaning = self.constants.array(f"{name}_meaning", meaning_of_bytes(self.model))
        else:
            before.read_at(self.now)
        fields = {
            "size": layer.in_size,
            "channels": layer.in_channels,
            "kernel": layer.kernel_size,
            "stride": layer.stride,
            "out_channels": layer.out_channels,
            "meaning": meaning,
            "filters": self.constants.array(f"{name}_filters", filters.astype(np.int8) if is_whole else filters),
            **self.affine(name, own),
        }
        step = self.constants.struct("whole_of" if is_whole else "real_of", name, fields)
        taps = layer.in_channels * layer.kernel_size**2
        if is_whole:
            self.out.patch_steps = max(self.out.patch_steps, taps)
            self.out.stem_filters = max(self.out.stem_filters, filters.size)
        else:
            self.out.patch_reals = max(self.out.patch_reals, taps)
        image = "image" if before is None else before.name
        if is_whole:
            return f"whole_row({step}, {image}, y, {layer.out_size}"
        images = f"{image}, 0" if before is None else f"0, {image}"
        return f"real_row({step}, {images}, y, {layer.out_size}"

    def classifier(self, features: Sequence[Value]) -> None:
        out, model = self.out, self.model
        layer = classifier_layer(model.settings, model.surroundings, precision="binary")
        own = self.arrays[layer.name]
        channels = features[0].channels
        alive = [index for index, value in enumerate(features) if not value.is_dead]
        kept = np.concatenate([np.arange(channels) + index * channels for index in alive])
        weights = np.ascontiguousarray(own.weights[:, kept, 0, 0])  # (classes, features)
        out.num_features = len(kept)
        is_scaled = layer.ending == "affine"
        self.constants.array("class_weights", weights.astype(np.int8) if is_scaled else weights)
        if is_scaled:
            self.constants.array("class_scales", own.scale)
        self.constants.array("class_biases", own.shift)
        product = f"class_weights[(k) * {len(kept)} + (c)]"
        scaled = f"((float){product} * class_scales[k])" if is_scaled else product
        self.constants.parts.append(f"#define CLASS_WEIGHT(k, c) {scaled}\n")
        for place, index in enumerate(alive):
            value = features[index]
            pixels = value.size**2
            own_features = f"features + {place * channels}"
            out.calls.append(f"    add_features({self.values_of(value)}, {channels}, {pixels}, {own_features});")
        out.calls.append(f"    classify(features, {len(kept)}, scores);")

    # ---------------------------------------------------------------- a cell

    def cell(self, name: str, cell: CellLayers, inputs: tuple[list[Value], list[Value]]) -> list[Value]:
        channels, nodes = cell.shape.num_channels, dict[int, Value]()
        for number in range(NUM_INPUT_NODES):
            if any(edge.source == number for edge in cell.edges):
                nodes[number] = self._preprocessing(name, cell, number, inputs[number])
        for number in range(NUM_INPUT_NODES, NUM_NODES):
            edges = [edge for edge in cell.edges if edge.node == number]
            if not edges:
                nodes[number] = Value(f"{name}_node{number}", channels, cell.out_size)
                continue
            value = self.new_value(f"{name}_node{number}", channels, cell.out_size, keeps_values=True, keeps_signs=True)
            rows = Rows(value)
            for edge in edges:
                self.edge(f"{name}_edge{edge.index}", edge, nodes[edge.source], rows, channels)
            num_edges = len(edges) if cell.averages else 1
            shift = self.ending(rows, cell.endings.get(number), num_edges=num_edges)
            self.function(rows, shift, keeps_values=True)
            nodes[number] = value
        return [nodes[number] for number in range(NUM_INPUT_NODES, NUM_NODES)]

    def _preprocessing(self, cell_name: str, cell: CellLayers, number: int, sources: list[Value]) -> Value:
        channels, name = cell.shape.num_channels, f"{cell_name}_input{number}"
        reading = [edge for edge in cell.edges if edge.source == number]
        keeps_values = any(_reads_values(edge) for edge in reading)
        keeps_signs = any(_reads_signs(edge) for edge in reading)
        value = self.new_value(name, channels, cell.size, keeps_values=keeps_values, keeps_signs=keeps_signs)
        rows = Rows(value)
        self.pointwise(name, cell.preprocessing[number], sources, rows)
        rows.begun()
        if cell.shortcuts[number]:
            halves = cell.preprocessing[number][0].stride == 2
            self.shortcut(name, sources, rows, channels, halves=halves)
        shift = self.ending(rows, cell.endings.get(number))
        self.function(rows, shift, keeps_values=keeps_values)
        return value


def _reads_values(edge: EdgeLayers) -> bool:
    """Whether an edge reads its node's values, and not their signs alone."""
    return not edge.layers or edge.layers[0].residual or not edge.layers[0].binary


def _reads_signs(edge: EdgeLayers) -> bool:
    return bool(edge.layers) and edge.layers[0].binary
