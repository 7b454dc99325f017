"""The steps of a value's rows as C: one for each kernel."""

from collections.abc import Sequence

import numpy as np

from cpnas_cli.deploy.c_source.constants import literal, members
from cpnas_cli.deploy.c_source.layout import (
    blocks_of_filters,
    depthwise_taps,
    depthwise_thresholds,
    num_words,
    tail_of,
    with_tail,
    words_of_filters,
)
from cpnas_cli.deploy.c_source.writing import Rows, Value, Writer
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import EdgeLayers


class StepWriter(Writer):
    """Writes steps into rows."""

    def pointwise(self, name: str, layers: Sequence[Layer], sources: list[Value], rows: Rows) -> None:
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
                signs = [self.signs_of(value) for value in sources]
                step = self._pointwise_of(own_name, layer, signs, shape)
                call = "add_pointwise_row"
            else:
                self.out.kernels.add("real_product")
                read = [
                    {"values": self.values_of(value), "size": value.size, "channels": value.channels}
                    for value in sources
                ]
                fields = {
                    "sources": self.constants.structs("values_of", f"{own_name}_sources", read),
                    "num_sources": len(read),
                    **shape,
                    "rectifies": self.rectifies,
                    "filters": self.constants.array(f"{own_name}_filters", blocks_of_filters(own.weights, self.lanes)),
                    **self.affine(own_name, own),
                }
                step = self.constants.struct("product_of", own_name, fields)
                call = "add_product_row"
            value = rows.value
            rows.add(f"{call}({step}, y, {value.size}, out + {channel}, {value.channels}, $keep);")
            channel += layer.out_channels

    def _pointwise_of(self, name: str, layer: Layer, signs: list[dict[str, object]], shape: dict[str, int]) -> str:
        own, words = self.arrays[layer.name], num_words(layer.in_channels)
        self.reads_patch(words)
        self.out.kernels.add("pointwise")
        bits = own.signs.reshape(1, layer.out_channels, -1)
        fields = {
            "sources": self.constants.structs("signs_of", f"{name}_sources", signs),
            "num_sources": len(signs),
            **shape,
            "words": words,
            "tail": tail_of(layer.in_channels),
            "filters": self.constants.array(f"{name}_filters", words_of_filters(with_tail(bits), self.lanes)),
            **self.affine(name, own),
        }
        return self.constants.struct("pointwise_of", name, fields)

    def shortcut(self, name: str, sources: list[Value], rows: Rows, channels: int, *, halves: bool) -> None:
        """Every group of so many channels of the sources, which lie side by side, times one over their number."""
        num_groups = sum(value.channels for value in sources) // channels
        pieces, begin = list[dict[str, object]](), 0
        for value in sources:
            channel = 0
            while channel < value.channels:
                out_channel = (begin + channel) % channels
                count = min(value.channels - channel, channels - out_channel)
                if not value.is_dead:  # zeros
                    source = f"{self.values_of(value)} + {channel}"
                    piece = {"values": source, "size": value.size, "pixel": value.channels}
                    pieces.append({**piece, "out_channel": out_channel, "channels": count})
                channel += count
            begin += value.channels
        self._add_pieces(f"{name}_shortcut", pieces, rows, halves=halves, part=np.float32(1 / num_groups))

    def _add_pieces(
        self, name: str, pieces: list[dict[str, object]], rows: Rows, *, halves: bool, part: np.float32
    ) -> None:
        if not pieces:
            return
        self.out.kernels.add("shortcut")
        place = self.constants.structs("piece_of", name, pieces)
        words = f"{place}, {len(pieces)}, {int(halves)}, {literal(part)}"
        rows.add(f"add_shortcut_row({words}, y, {rows.value.size}, out, {rows.value.channels}, $keep);")

    # ---------------------------------------------------------------- an edge

    def edge(self, name: str, edge: EdgeLayers, source: Value, rows: Rows, channels: int) -> None:
        layers, size = edge.layers, rows.value.size
        if not layers:
            self.out.kernels.add("identity")
            place = f"{self.values_of(source)} + y * {channels * size}"
            rows.add(f"add_identity_row({place}, {channels}, {size}, out, $keep);")
        elif layers[0].feeds_next:
            self._separable(name, layers[0], layers[1], source, rows)
        elif layers[0].residual:
            self._grouped(name, layers[0], source, rows)
        elif layers[0].pooling == "halving":
            piece = {"values": self.values_of(source), "size": source.size, "pixel": channels}
            pieces: list[dict[str, object]] = [{**piece, "out_channel": 0, "channels": channels}]
            self._add_pieces(f"{name}_halving", pieces, rows, halves=True, part=np.float32(1))
        elif layers[0].pooling is not None:
            self._pool(name, layers[0], source, rows)
        else:
            self.pointwise(name, layers, [source], rows)
        rows.begun()

    def _separable(self, name: str, depthwise: Layer, pointwise: Layer, source: Value, rows: Rows) -> None:
        own, size = self.arrays[depthwise.name], depthwise.out_size
        self.out.kernels |= {"counts", "depthwise"}
        slot = self.buffer(f"{name}_row", "words", num_words(depthwise.out_channels) * size)
        padded = (depthwise.kernel_size + 1) * (depthwise.in_size + 2 * depthwise.padding)
        self.out.padded_words = max(self.out.padded_words, padded)
        digits, which, thresholds = depthwise_thresholds(depthwise, own.thresholds)
        fields = {
            "signs": members(self.signs_of(source)),
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

    def _grouped(self, name: str, layer: Layer, source: Value, rows: Rows) -> None:
        own, width = self.arrays[layer.name], layer.inputs_per_filter
        bits = own.signs.reshape(layer.groups, width, width, -1).transpose(0, 1, 3, 2)  # taps first, then inputs
        words = num_words(width * layer.kernel_size**2)
        self.reads_patch(words)
        self.out.kernels.add("grouped")
        self.out.has_masks = True
        filters = words_of_filters(bits.reshape(layer.groups, width, -1), self.lanes)
        fields = {
            "signs": members(self.signs_of(source)),
            "values": self.values_of(source),
            **_window(layer),
            "width": width,
            "words": words,
            "filters": self.constants.array(f"{name}_filters", filters),
            **self.affine(name, own),
        }
        step = self.constants.struct("grouped_of", f"{name}_grouped", fields)
        rows.add(f"add_grouped_row({step}, y, {rows.value.size}, out, $keep);")

    def _pool(self, name: str, layer: Layer, source: Value, rows: Rows) -> None:
        self.out.kernels.add("pool")
        fields = {
            "values": self.values_of(source),
            "size": layer.in_size,
            "channels": layer.in_channels,
            "stride": layer.stride,
            "is_max": layer.pooling == "max",
            **self.affine(name, self.arrays[layer.name]),
        }
        step = self.constants.struct("pool_of", f"{name}_pool", fields)
        rows.add(f"add_pool_row({step}, y, {rows.value.size}, out, $keep);")


def _window(layer: Layer) -> dict[str, object]:
    return {
        "size": layer.in_size,
        "kernel": layer.kernel_size,
        "stride": layer.stride,
        "dilation": layer.dilation,
        "padding": layer.padding,
    }
