"""From a packed model to what its C program computes: one function for each value, with constants and memory.

A value is what the stem, a preprocessing or a node of a cell gives. Its function goes row by row: the steps add up, in
the order of the network in PyTorch, then the row's signs are packed. What nothing reads is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cpnas_cli.deploy.c_source.constants import Constants
from cpnas_cli.deploy.c_source.layout import (
    blocks_of_filters,
    depthwise_taps,
    depthwise_thresholds,
    meaning_of_bytes,
    num_lanes,
    num_words,
    padded,
    words_of_filters,
)
from cpnas_cli.deploy.c_source.memory import Buffer, plan
from cpnas_cli.deploy.packed_file import LayerArrays, PackedModel, unpack_layers
from cpnas_cli.networks.blocks.base import block_of
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import CellLayers, EdgeLayers, cells_of, classifier_layer, stem_layers
from cpnas_cli.networks.stem_arithmetic import largest_step_of
from cpnas_cli.search_space import NUM_INPUT_NODES, NUM_NODES


@dataclass(eq=False)
class Value:
    """An image of values with their signs; a buffer that is None is not needed, and none exists of a dead node."""

    name: str
    channels: int
    size: int
    values: Buffer | None = None
    signs: Buffer | None = None

    @property
    def is_dead(self) -> bool:
        return self.values is None and self.signs is None


@dataclass
class Written:
    """The C of a network, without its kernels.

    Attributes:
      functions: of the values, in their order; calls: what calls them.
      kernels: the names of those that are used.
      buffers: planned; sizes: of the arrays that hold them.
    """

    lanes: int
    constants: Constants = field(default_factory=Constants)
    functions: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    kernels: set[str] = field(default_factory=set)
    buffers: list[Buffer] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    patch_words: int = 0
    patch_steps: int = 0
    stem_filters: int = 0
    num_features: int = 0
    has_masks: bool = False


def write_network(model: PackedModel) -> Written:
    """See the module's text."""
    writer = _Writer(model)
    stem = writer.stem()
    inputs: tuple[list[Value], list[Value]] = ([stem], [stem])
    for index, cell in enumerate(cells_of(model.settings, model.genotype, model.surroundings, precision="binary")):
        inputs = inputs[1], writer.cell(f"cell{index}", cell, inputs)
    writer.classifier(inputs[1])
    return writer.finish()


@dataclass
class _Rows:
    """A value's function while it is written: the statements for a row, and how many values were added to it."""

    value: Value
    lines: list[str] = field(default_factory=list)
    is_begun: bool = False

    def add(self, call: str) -> None:
        """A statement, with `$keep` for whether there is something to add to."""
        self.lines.append(call.replace("$keep", str(int(self.is_begun))))

    def begun(self) -> None:
        self.is_begun = True


class _Writer:
    def __init__(self, model: PackedModel) -> None:
        self.model, self.arrays = model, unpack_layers(model)
        self.rectifies = block_of(model.settings).rectifies
        self.out = Written(num_lanes(model))
        self.lanes, self.constants = self.out.lanes, self.out.constants
        self.now = 0  # the instruction that is being written
        self._rows_of = dict[str, tuple[_Rows, np.ndarray | None]]()

    def finish(self) -> Written:
        out = self.out
        for array in ("values", "words", "bytes"):
            out.sizes[array] = plan([buffer for buffer in out.buffers if buffer.array == array])
        return out

    # ---------------------------------------------------------------- buffers and constants

    def _buffer(self, name: str, array: str, size: int) -> Buffer:
        buffer = Buffer(name, array, size, self.now, self.now)
        self.out.buffers.append(buffer)
        return buffer

    def _new(self, name: str, channels: int, size: int, *, keeps_values: bool, keeps_signs: bool) -> Value:
        """A value that this instruction writes; without its values there is room for one row of them."""
        rows = size if keeps_values else 1
        values = self._buffer(f"{name}_values", "values", channels * size * rows)
        signs = self._buffer(f"{name}_signs", "words", num_words(channels) * size**2) if keeps_signs else None
        return Value(name, channels, size, values, signs)

    def _values(self, value: Value) -> str:
        """The name of its buffer, which is read now; NULL of a dead node."""
        if value.is_dead:
            return "0"
        assert value.values is not None
        value.values.read_at(self.now)
        return value.values.name

    def _signs(self, value: Value) -> dict[str, object]:
        """Its signs as a structure's members, read now."""
        size = value.size
        if value.is_dead:
            return {"words": 0, "row": 0, "plane": 0, "channels": value.channels}
        assert value.signs is not None
        value.signs.read_at(self.now)
        return {"words": value.signs.name, "row": size, "plane": size**2, "channels": value.channels}

    def _affine(self, name: str, own: LayerArrays) -> dict[str, object]:
        return {
            "scale": self.constants.array(f"{name}_scale", padded(own.scale, self.model)),
            "shift": self.constants.array(f"{name}_shift", padded(own.shift, self.model)),
        }

    def _patch(self, words: int) -> None:
        self.out.kernels.add("counts")
        self.out.patch_words = max(self.out.patch_words, words)

    # ---------------------------------------------------------------- a value's function

    def _function(self, rows: _Rows, shift: np.ndarray | None, *, keeps_values: bool) -> None:
        """Write the function of a value whose steps are listed, and go on to the next instruction."""
        value = rows.value
        name, channels, size = value.name, value.channels, value.size
        assert value.values is not None
        place = f" + y * {channels * size}" if keeps_values else ""
        lines = [f"float *out = {value.values.name}{place};", *rows.lines]
        if value.signs is not None:
            shifts = "0" if shift is None else self.constants.array(f"{name}_sign_shift", padded(shift, self.model))
            lines.append(f"pack_row(out, {shifts}, {channels}, {size}, {value.signs.name} + y * {size}, {size**2});")
        signs = "0" if value.signs is None else value.signs.name
        self._emit(name, [f"for (y = 0; y < {size}; ++y) {{", *(f"    {line}" for line in lines), "}"])
        values = value.values.name if keeps_values else "0"
        self.out.calls[-1] += f"\n    OBSERVE({name}, {values}, {signs}, {channels}, {size});"

    def _emit(self, name: str, lines: Sequence[str], arguments: str = "") -> None:
        declared = "const uint8_t *image" if arguments else "void"
        body = "\n".join(f"    {line}" for line in ("int y;", *lines))
        self.out.functions.append(f"static void {name}({declared})\n{{\n{body}\n}}\n")
        self.out.calls.append(f"    {name}({arguments});")
        self.now += 1

    def _ending(self, rows: _Rows, layer: Layer | None, *, num_edges: int = 1) -> np.ndarray | None:
        """The statement of an ending, if there is one, and what it adds before the sign."""
        values = np.zeros((0, 0), np.float32) if layer is None else self.arrays[layer.name].ending
        shift = values[-1] if len(values) and self.model.settings.sign_shift else None
        activation = values[: len(values) - (shift is not None)]
        if not len(activation) and num_edges == 1:
            return shift
        self.out.kernels.add("ending")
        name, value = f"{rows.value.name}_ending", rows.value
        parts = [
            self.constants.array(f"{name}{index}", padded(row, self.model)) for index, row in enumerate(activation)
        ]
        before, slope, after = parts if len(parts) == 3 else ("0", parts[0] if parts else "0", "0")
        part = _literal(np.float32(1 / num_edges))
        rows.add(f"end_row(out, {value.channels}, {value.size}, {before}, {slope}, {after}, {part});")
        return shift

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
            buffer = self._buffer(f"stem{index}", "bytes" if is_whole else "values", size)
            place = f"{buffer.name} + y * {layer.out_channels * layer.out_size}"
            largest = _literal(np.float32(largest_step_of(following, is_image=False)))
            line = self._stem_row(index, layer, before, is_whole=is_whole)
            tail = f"0, {place}, {largest}" if is_whole else f"{place}, 1"
            self._emit(
                f"stem_convolution{index}",
                [f"for (y = 0; y < {layer.out_size}; ++y) {{", f"    {line}, {tail});", "}"],
                "image" if index == 0 else "",
            )
            before = buffer
        last = convolutions[-1]
        value = self._new("stem", last.out_channels, last.out_size, keeps_values=True, keeps_signs=True)
        rows = _Rows(value)
        line = self._stem_row(len(convolutions) - 1, last, before, is_whole=is_whole)
        rows.add(f"{line}, {'out, 0, 0.0f' if is_whole else 'out, 0'});")
        shift = self._ending(rows, ending)
        self._function(rows, shift, keeps_values=True)
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
            **self._affine(name, own),
        }
        step = self.constants.struct("whole_of" if is_whole else "real_of", name, fields)
        taps = layer.in_channels * layer.kernel_size**2
        if is_whole:
            self.out.patch_steps = max(self.out.patch_steps, taps)
            self.out.stem_filters = max(self.out.stem_filters, filters.size)
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
            out.calls.append(f"    add_features({self._values(value)}, {channels}, {pixels}, {own_features});")
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
            value = self._new(f"{name}_node{number}", channels, cell.out_size, keeps_values=True, keeps_signs=True)
            rows = _Rows(value)
            for edge in edges:
                self._edge(f"{name}_edge{edge.index}", edge, nodes[edge.source], rows, channels)
            num_edges = len(edges) if cell.averages else 1
            shift = self._ending(rows, cell.endings.get(number), num_edges=num_edges)
            self._function(rows, shift, keeps_values=True)
            nodes[number] = value
        return [nodes[number] for number in range(NUM_INPUT_NODES, NUM_NODES)]

    def _preprocessing(self, cell_name: str, cell: CellLayers, number: int, sources: list[Value]) -> Value:
        channels, name = cell.shape.num_channels, f"{cell_name}_input{number}"
        reading = [edge for edge in cell.edges if edge.source == number]
        keeps_values = any(_reads_values(edge) for edge in reading)
        keeps_signs = any(_reads_signs(edge) for edge in reading)
        value = self._new(name, channels, cell.size, keeps_values=keeps_values, keeps_signs=keeps_signs)
        rows = _Rows(value)
        self._pointwise(name, cell.preprocessing[number], sources, rows)
        rows.begun()
        if cell.shortcuts[number]:
            halves = cell.preprocessing[number][0].stride == 2
            self._shortcut(name, sources, rows, channels, halves=halves)
        shift = self._ending(rows, cell.endings.get(number))
        self._function(rows, shift, keeps_values=keeps_values)
        return value

    def _pointwise(self, name: str, layers: Sequence[Layer], sources: list[Value], rows: _Rows) -> None:
        """A 1x1 convolution, or the two of a factorized reduction, whose results lie side by side."""
        channel = 0
        for index, layer in enumerate(layers):
            own_name, own = f"{name}_pointwise{index}", self.arrays[layer.name]
            if not layer.out_channels:
                continue
            shape = {
                "stride": layer.stride,
                "first": index,
                "channels": layer.out_channels,
                "inputs": layer.in_channels,
            }
            if layer.binary:
                signs = [self._signs(value) for value in sources]
                step = self._pointwise_of(own_name, layer, signs, shape)
                call = "add_pointwise_row"
            else:
                self.out.kernels.add("real_product")
                read = [
                    {"values": self._values(value), "size": value.size, "channels": value.channels} for value in sources
                ]
                fields = {
                    "sources": self.constants.structs("values_of", f"{own_name}_sources", read),
                    "num_sources": len(read),
                    **shape,
                    "rectifies": self.rectifies,
                    "filters": self.constants.array(f"{own_name}_filters", blocks_of_filters(own.weights, self.lanes)),
                    **self._affine(own_name, own),
                }
                step = self.constants.struct("product_of", own_name, fields)
                call = "add_product_row"
            value = rows.value
            rows.add(f"{call}({step}, y, {value.size}, out + {channel}, {value.channels}, $keep);")
            channel += layer.out_channels

    def _pointwise_of(self, name: str, layer: Layer, signs: list[dict[str, object]], shape: dict[str, int]) -> str:
        own, words = self.arrays[layer.name], num_words(layer.in_channels)
        self._patch(words)
        self.out.kernels.add("pointwise")
        bits = own.signs.reshape(1, layer.out_channels, -1)
        fields = {
            "sources": self.constants.structs("signs_of", f"{name}_sources", signs),
            "num_sources": len(signs),
            **shape,
            "words": words,
            "filters": self.constants.array(f"{name}_filters", words_of_filters(bits, self.lanes)),
            **self._affine(name, own),
        }
        return self.constants.struct("pointwise_of", name, fields)

    def _shortcut(self, name: str, sources: list[Value], rows: _Rows, channels: int, *, halves: bool) -> None:
        """Every group of so many channels of the sources, which lie side by side, times one over their number."""
        num_groups = sum(value.channels for value in sources) // channels
        pieces, begin = list[dict[str, object]](), 0
        for value in sources:
            channel = 0
            while channel < value.channels:
                out_channel = (begin + channel) % channels
                count = min(value.channels - channel, channels - out_channel)
                if not value.is_dead:  # zeros
                    source = f"{self._values(value)} + {channel}"
                    piece = {"values": source, "size": value.size, "pixel": value.channels}
                    pieces.append({**piece, "out_channel": out_channel, "channels": count})
                channel += count
            begin += value.channels
        self._add_pieces(f"{name}_shortcut", pieces, rows, halves=halves, part=np.float32(1 / num_groups))

    def _add_pieces(
        self, name: str, pieces: list[dict[str, object]], rows: _Rows, *, halves: bool, part: np.float32
    ) -> None:
        if not pieces:
            return
        self.out.kernels.add("shortcut")
        place = self.constants.structs("piece_of", name, pieces)
        words = f"{place}, {len(pieces)}, {int(halves)}, {_literal(part)}"
        rows.add(f"add_shortcut_row({words}, y, {rows.value.size}, out, {rows.value.channels}, $keep);")

    # ---------------------------------------------------------------- an edge

    def _edge(self, name: str, edge: EdgeLayers, source: Value, rows: _Rows, channels: int) -> None:
        layers, size = edge.layers, rows.value.size
        if not layers:
            self.out.kernels.add("identity")
            place = f"{self._values(source)} + y * {channels * size}"
            rows.add(f"add_identity_row({place}, {channels}, {size}, out, $keep);")
        elif layers[0].feeds_next:
            self._separable(name, layers[0], layers[1], source, rows)
        elif layers[0].residual:
            self._grouped(name, layers[0], source, rows)
        elif layers[0].pooling == "halving":
            piece = {"values": self._values(source), "size": source.size, "pixel": channels}
            pieces: list[dict[str, object]] = [{**piece, "out_channel": 0, "channels": channels}]
            self._add_pieces(f"{name}_halving", pieces, rows, halves=True, part=np.float32(1))
        elif layers[0].pooling is not None:
            self._pool(name, layers[0], source, rows)
        else:
            self._pointwise(name, layers, [source], rows)
        rows.begun()

    def _separable(self, name: str, depthwise: Layer, pointwise: Layer, source: Value, rows: _Rows) -> None:
        own, size = self.arrays[depthwise.name], depthwise.out_size
        self.out.kernels |= {"counts", "depthwise"}
        slot = self._buffer(f"{name}_row", "words", num_words(depthwise.out_channels) * size)
        digits, which, thresholds = depthwise_thresholds(depthwise, own.thresholds)
        fields = {
            "signs": _nested(self._signs(source)),
            **_window(depthwise),
            "digits": digits,
            "taps": self.constants.array(f"{name}_taps", depthwise_taps(own.signs)),
            "thresholds": self.constants.array(f"{name}_thresholds", thresholds),
            "which": self.constants.array(f"{name}_which", which),
        }
        step = self.constants.struct("depthwise_of", f"{name}_depthwise", fields)
        rows.add(f"depthwise_row({step}, y, {size}, {slot.name});")
        channels = pointwise.in_channels
        signs: dict[str, object] = {"words": slot.name, "row": 0, "plane": size, "channels": channels}
        shape = {"stride": 1, "first": 0, "channels": pointwise.out_channels, "inputs": channels}
        step = self._pointwise_of(f"{name}_pointwise", pointwise, [signs], shape)
        rows.add(f"add_pointwise_row({step}, y, {size}, out, {rows.value.channels}, $keep);")

    def _grouped(self, name: str, layer: Layer, source: Value, rows: _Rows) -> None:
        own, width = self.arrays[layer.name], layer.inputs_per_filter
        bits = own.signs.reshape(layer.groups, width, width, -1).transpose(0, 1, 3, 2)  # taps first, then inputs
        words = num_words(width * layer.kernel_size**2)
        self._patch(words)
        self.out.kernels.add("grouped")
        self.out.has_masks = True
        filters = words_of_filters(bits.reshape(layer.groups, width, -1), self.lanes)
        fields = {
            "signs": _nested(self._signs(source)),
            "values": self._values(source),
            **_window(layer),
            "width": width,
            "words": words,
            "filters": self.constants.array(f"{name}_filters", filters),
            **self._affine(name, own),
        }
        step = self.constants.struct("grouped_of", f"{name}_grouped", fields)
        rows.add(f"add_grouped_row({step}, y, {rows.value.size}, out, $keep);")

    def _pool(self, name: str, layer: Layer, source: Value, rows: _Rows) -> None:
        self.out.kernels.add("pool")
        fields = {
            "values": self._values(source),
            "size": layer.in_size,
            "channels": layer.in_channels,
            "stride": layer.stride,
            "is_max": layer.pooling == "max",
            **self._affine(name, self.arrays[layer.name]),
        }
        step = self.constants.struct("pool_of", f"{name}_pool", fields)
        rows.add(f"add_pool_row({step}, y, {rows.value.size}, out, $keep);")


def _reads_values(edge: EdgeLayers) -> bool:
    """Whether an edge reads its node's values, and not their signs alone."""
    return not edge.layers or edge.layers[0].residual or not edge.layers[0].binary


def _reads_signs(edge: EdgeLayers) -> bool:
    return bool(edge.layers) and edge.layers[0].binary


def _window(layer: Layer) -> dict[str, object]:
    return {
        "size": layer.in_size,
        "kernel": layer.kernel_size,
        "stride": layer.stride,
        "dilation": layer.dilation,
        "padding": layer.padding,
    }


def _nested(fields: dict[str, object]) -> str:
    return "{" + ", ".join(f".{name} = {value}" for name, value in fields.items()) + "}"


def _literal(value: np.float32) -> str:
    text = f"{float(value):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")
