"""Collects the constants, the instructions and the plan of memory of a program."""

from collections.abc import Mapping, Sequence

import numpy as np

from cpnas_cli.deploy.engine import product_columns
from cpnas_cli.deploy.engine.layout import (
    LANES,
    WORD_BITS,
    PatchBlock,
    filters_by_pairs,
    filters_by_vectors,
    num_blocks,
    num_words,
    patch_blocks,
    patch_pieces,
    row_patterns,
    sums_at_start,
    threshold_planes,
    whole_vectors,
)
from cpnas_cli.deploy.engine.order import Order
from cpnas_cli.deploy.engine.plan import Constants, Memory
from cpnas_cli.deploy.engine.program import (
    AFTER,
    BEFORE,
    BLOCKS,
    BLOCKS_OF,
    DEPTHWISE,
    DEPTHWISE_KINDS,
    DILATION,
    ENDING,
    FIRST_PART,
    FIRST_PRODUCT,
    FIRST_STEP,
    GATHER,
    GATHER_PIXELS,
    GATHER_PLANE,
    GATHER_SOURCE,
    GATHER_STRIDE,
    GROUP_CHANNELS,
    GROUPED,
    HALVES,
    IDENTITY,
    IS_MAX,
    KEEP,
    KERNEL,
    KIND,
    MASKS,
    NODE,
    NUM_COLUMNS,
    NUM_EDGES,
    NUM_GROUPS,
    NUM_INPUTS,
    NUM_PARTS,
    NUM_PRODUCTS,
    NUM_SIGN_WORDS,
    NUM_STEPS,
    NUM_WORDS,
    OUT,
    OUT_BLOCKS,
    OUT_CHANNEL,
    OWN_KERNELS,
    PATCHES_PLANE,
    PATCHES_ROW,
    PIXEL,
    POOL,
    PRODUCTS,
    REAL_OUT_BLOCKS,
    REAL_OUT_CHANNEL,
    REAL_PRODUCT,
    RECTIFIES,
    SCALE,
    SHIFT,
    SHORTCUT,
    SIGN_SHIFT,
    SIGNS,
    SIGNS_PLANE,
    SIGNS_ROW,
    SIZE,
    SLOPE,
    SLOT,
    SOURCE,
    SOURCE_PIXEL,
    SOURCE_PLANE,
    SOURCE_ROW,
    SOURCE_SIZE,
    START_COLUMNS,
    START_ROWS,
    STRIDE,
    THRESHOLDS,
    WAITS,
    WEIGHTS,
    WIDTH,
    Values,
    Words,
)
from cpnas_cli.deploy.packed_file import LayerArrays
from cpnas_cli.networks.layer import Layer

# Words in front of a thread's slots: a page, so that no processor fetches ahead what another one writes all the time.
_SLOT_GAP = 1024


class ProgramBuilder:
    """Collects constants, instructions and the plan of memory."""

    def __init__(self) -> None:
        self.value_memory, self.word_memory, self.double_memory = Memory(), Memory(), Memory()
        self.slot_memory = Memory()  # behind the words
        self.slot_memory.region("gap", _SLOT_GAP)
        self.order = Order()
        self.constants, self.reals, self.doubles = Constants(np.uint32), Constants(np.float32), Constants(np.float64)
        self.instructions = list[list[int]]()
        self.steps, self.products, self.table = list[list[int]](), list[list[int]](), list[int]()
        self.stem = list[int]()
        self.gathered = dict[object, dict[tuple[int, int], int]]()  # of the nodes that are in memory

    def values(self, name: object, *, pixel: int, size: int) -> Values:
        return Values(self.value_memory.region((name, pixel), pixel * size**2), pixel, size)

    def words(self, name: object, *, channels: int, size: int, border: int) -> Words:
        """Signs of an image with a border of zeros, which nothing writes to."""
        row = size + 2 * border if border else whole_vectors(size)
        plane = (size + 2 * border) * row
        offset = self.word_memory.region((name, size, border), num_words(channels) * plane)
        return Words(offset + border * (row + 1), row, plane, num_words(channels))

    def slot(self, index: int, layer: Layer) -> Words:
        """Room for one row of signs."""
        width, words = whole_vectors(layer.out_size), num_words(layer.out_channels)
        return Words(self.slot_memory.region(index, width * words), 0, width, words)

    def instruction(
        self, kind: int, columns: Mapping[int, int], *, num_rows: int = 0, writes: Sequence[Values | Words] = ()
    ) -> None:
        """`num_rows`: of what it computes and of what its rows read; 0: its rows are others."""
        self.instructions.append(_row(kind, {**columns, WAITS: self.order.waits(num_rows, writes)}))

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps and products, with the slots behind all other words."""
        steps = np.array(self.steps, np.int64).reshape(-1, NUM_COLUMNS)
        products = np.array(self.products, np.int64).reshape(-1, product_columns.PRODUCT_COLUMNS)
        steps[np.isin(steps[:, KIND], DEPTHWISE_KINDS), SLOT] += self.word_memory.size
        products[products[:, product_columns.ROW] == 0, product_columns.WORDS] += self.word_memory.size
        return steps, products

    # constants

    def filters(self, signs: np.ndarray) -> int:
        """Signs of 1x1 filters, bool (C_out, C_in), as (blocks, words, 16)."""
        out_channels, in_channels = signs.shape
        padded = np.zeros((num_blocks(out_channels) * LANES, num_words(in_channels) * WORD_BITS), bool)
        padded[:out_channels, :in_channels] = signs
        words = np.packbits(padded, axis=1, bitorder="little").view(np.uint32)  # (channels, words)
        return self.constants.add(words.reshape(-1, LANES, words.shape[1]).transpose(0, 2, 1))

    def channels(self, values: np.ndarray) -> int:
        """One real value per channel; zero in what pads the last vector."""
        return self.reals.add(values)

    def real_filters(self, weights: np.ndarray) -> int:
        """Real filters (C_out, ...), as (blocks, taps, 16) float64; taps with the input channel last."""
        return self.doubles.add(filters_by_vectors(weights))

    def whole_filters(self, weights: np.ndarray, *, joined: bool) -> tuple[int, int, int]:
        """Filters of whole numbers; their offset, and runs and pairs (see `layout.filters_by_pairs`)."""
        pairs = filters_by_pairs(weights, joined=joined)
        return self.constants.add(pairs), pairs.shape[2], pairs.shape[3]

    def taps(self, signs: np.ndarray) -> int:
        """Negated signs of depthwise filters, bool (C, 1, k, k), as (k * k, words)."""
        channels = signs.shape[0]
        padded = np.zeros((signs[0].size, num_words(channels) * WORD_BITS), bool)
        padded[:, :channels] = ~signs.reshape(channels, -1).T
        return self.constants.add(np.packbits(padded, axis=1, bitorder="little").view(np.uint32))

    def signs_columns(self, signs: Words, channels: int, shift: np.ndarray | None) -> dict[int, int]:
        """Where an instruction leaves the signs of its result, and what it adds per channel before it takes them."""
        return {
            SIGNS: signs.offset,
            SIGNS_ROW: signs.row,
            SIGNS_PLANE: signs.plane,
            NUM_SIGN_WORDS: signs.num_words,
            MASKS: self.masks(channels),
            SIGN_SHIFT: self.reals.add(np.zeros(signs.num_words * WORD_BITS) if shift is None else shift),
        }

    def masks(self, channels: int) -> int:
        """Per word, the bits that are channels."""
        used = np.zeros(num_words(channels) * WORD_BITS, bool)
        used[:channels] = True
        return self.constants.add(np.packbits(used, bitorder="little").view(np.uint32))

    # steps of a node

    def depthwise(self, layer: Layer, arrays: LayerArrays, source: Words, slot: Words) -> list[int]:
        """Leaves a row of signs in its slot."""
        offsets = [self.constants.add(planes) for planes in threshold_planes(layer, arrays.signs, arrays.thresholds)]
        self.order.reads_around(source)
        rows = len(self.table)
        self.table += [offsets[index] for index in row_patterns(layer)]
        columns = {
            SOURCE: source.offset - layer.padding * (source.row + 1),
            SOURCE_ROW: source.row,
            SOURCE_PLANE: source.plane,
            DILATION: layer.dilation,
            STRIDE: layer.stride,
            WEIGHTS: self.taps(arrays.signs),
            THRESHOLDS: rows,
            WIDTH: slot.plane,
            NUM_WORDS: source.num_words,
            SLOT: slot.offset,
            KERNEL: layer.kernel_size,
        }
        return _row(OWN_KERNELS.get(layer.kernel_size, DEPTHWISE), columns)

    def product(self, layer: Layer, arrays: LayerArrays, source: Words, *, first: int = 0) -> None:
        """One more product for the next `products`; `first`: the source's row and column under the first result."""
        row = [0] * product_columns.PRODUCT_COLUMNS
        row[product_columns.WORDS] = source.offset + first * (source.row + 1)
        row[product_columns.STEP], row[product_columns.PLANE] = layer.stride, source.plane
        row[product_columns.NUM_WORDS] = source.num_words
        row[product_columns.WEIGHTS] = self.filters(arrays.signs.reshape(layer.out_channels, -1))
        row[product_columns.NUM_INPUTS] = layer.in_channels
        row[product_columns.SCALE], row[product_columns.SHIFT] = (
            self.channels(arrays.scale),
            self.channels(arrays.shift),
        )
        row[product_columns.ROW] = layer.stride * source.row
        self.products.append(row)

    def add_products(self, first: int, *, out_channels: int, out_channel: int = 0, keep: bool) -> list[int]:
        """The products from the `first` on, added up."""
        columns = {
            KEEP: keep,
            FIRST_PRODUCT: first,
            NUM_PRODUCTS: len(self.products) - first,
            OUT_CHANNEL: out_channel,
            OUT_BLOCKS: num_blocks(out_channels),
        }
        return _row(PRODUCTS, columns)

    def real_product(
        self,
        layer: Layer,
        arrays: LayerArrays,
        source: Values,
        *,
        first: int,
        out_channel: int,
        keep: bool,
        rectifies: bool,
    ) -> list[int]:
        columns = {
            KEEP: keep,
            SOURCE: source.offset + first * (source.row + source.pixel),
            SOURCE_ROW: layer.stride * source.row,
            SOURCE_PIXEL: layer.stride * source.pixel,
            WEIGHTS: self.real_filters(arrays.weights),
            SCALE: self.channels(arrays.scale),
            SHIFT: self.channels(arrays.shift),
            NUM_INPUTS: layer.in_channels,
            REAL_OUT_CHANNEL: out_channel,
            REAL_OUT_BLOCKS: num_blocks(layer.out_channels),
            RECTIFIES: rectifies,
        }
        return _row(REAL_PRODUCT, columns)

    def identity(self, source: Values, *, keep: bool) -> list[int]:
        columns = {KEEP: keep, SOURCE: source.offset, SOURCE_ROW: source.row, SOURCE_PIXEL: source.pixel}
        return _row(IDENTITY, columns)

    def pool(self, layer: Layer, arrays: LayerArrays, source: Values, *, is_max: bool, keep: bool) -> list[int]:
        self.order.reads_around(source)
        columns = {
            KEEP: keep,
            SOURCE: source.offset,
            SOURCE_PIXEL: source.pixel,
            SOURCE_SIZE: source.size,
            STRIDE: layer.stride,
            IS_MAX: is_max,
            SCALE: self.channels(arrays.scale),
            SHIFT: self.channels(arrays.shift),
        }
        return _row(POOL, columns)

    def grouped(self, layer: Layer, arrays: LayerArrays, signs: Words, source: Values, *, keep: bool) -> list[int]:
        """A grouped convolution with its residual; `signs` with a border as wide as its padding."""
        patterns, sums = row_patterns(layer), sums_at_start(layer, arrays.signs)
        start, columns_of_sums, channels = self.reals.add(sums), sums.shape[1], sums.shape[2]
        columns = {
            KEEP: keep,
            SOURCE: source.offset,
            SOURCE_ROW: source.row,
            SOURCE_PIXEL: source.pixel,
            STRIDE: layer.stride,
            SCALE: self.channels(arrays.scale),
            SHIFT: self.channels(arrays.shift),
            START_ROWS: len(self.table),
            START_COLUMNS: len(self.table) + layer.out_size,
            PATCHES_ROW: signs.row,
            PATCHES_PLANE: _patches_plane(layer, signs),
        }
        self.table += [start + index * columns_of_sums * channels for index in patterns]
        self.table += [index * channels for index in patterns]
        blocks = patch_blocks(arrays.signs, layer.groups)
        patches = self._gathered(layer, blocks, signs)
        columns[BLOCKS_OF] = len(self.table)
        for block in blocks:
            masks = -1 if block.masks is None else self.constants.add(block.masks)
            self.table += [patches[block.channels], len(block.filters), self.constants.add(block.filters), masks]
        return _row(GROUPED, columns)

    def _gathered(self, layer: Layer, blocks: Sequence[PatchBlock], signs: Words) -> dict[tuple[int, int], int]:
        """Where the patches of the blocks' channels are, which an instruction leaves there the first time."""
        ranges = tuple(dict.fromkeys(block.channels for block in blocks))
        key = (signs, layer.kernel_size, layer.dilation, layer.stride, ranges)
        if key not in self.gathered:
            plane, parts, patches = _patches_plane(layer, signs), list[int](), dict[tuple[int, int], int]()
            for first, last in ranges:
                words = patch_pieces(first, last, layer.kernel_size**2)
                name = ("patches", len(self.gathered), first)
                patches[first, last] = self.word_memory.region(name, len(words) * plane)
                bits = self.constants.add(np.array([piece[2:] for word in words for piece in word], np.uint32))
                parts += [len(self.table), bits, len(words), patches[first, last]]
                for word in words:
                    self.table += [len(word), *(_place(tap, source, layer, signs) for tap, source, _, _ in word)]
            columns = {
                GATHER_SOURCE: signs.offset,
                GATHER_STRIDE: layer.stride,
                GATHER_PIXELS: (layer.out_size - 1) * signs.row + layer.out_size,
                GATHER_PLANE: plane,
                FIRST_PART: len(self.table),
                NUM_PARTS: len(ranges),
            }
            self.table += parts
            self.order.reads_around(signs)
            self.instruction(GATHER, columns)
            self.gathered[key] = patches
        return self.gathered[key]

    def ending(self, values: np.ndarray, *, num_edges: int = 1) -> list[int]:
        """What ends a node in place: the mean over its edges, whose sum it is until then, and the activation.

        Args:
          values: (0, C), or (1, C), a slope, or (3, C), with the shifts around it.
        """
        rows = [self.channels(row) for row in values]
        before, slope, after = rows if len(rows) == 3 else (-1, rows[0] if rows else -1, -1)
        return _row(ENDING, {SLOPE: slope, BEFORE: before, AFTER: after, NUM_EDGES: num_edges})

    def shortcut(self, source: Values, *, halves: bool, num_groups: int, channels: int, keep: bool) -> list[int]:
        columns = {
            KEEP: keep,
            SOURCE: source.offset,
            SOURCE_ROW: source.row,
            SOURCE_PIXEL: source.pixel,
            HALVES: halves,
            NUM_GROUPS: num_groups,
            GROUP_CHANNELS: channels,
        }
        return _row(SHORTCUT, columns)

    def node(
        self, steps: list[list[int]], out: Values, *, channels: int, signs: Words, shift: np.ndarray | None
    ) -> None:
        columns = {OUT: out.offset, PIXEL: out.pixel, SIZE: out.size, BLOCKS: num_blocks(channels)}
        columns |= {FIRST_STEP: len(self.steps), NUM_STEPS: len(steps), **self.signs_columns(signs, channels, shift)}
        self.steps += steps
        self.instruction(NODE, columns, num_rows=out.size, writes=(out, signs))


def _patches_plane(layer: Layer, signs: Words) -> int:
    """Patches of an image; they lie as far from a row to the next as its words, also at stride 2."""
    return whole_vectors((layer.out_size - 1) * signs.row + layer.out_size)


def _place(tap: int, word: int, layer: Layer, signs: Words) -> int:
    """Where a tap's word lies, counted from the one in the middle of the filter."""
    y, x = (number * layer.dilation - layer.padding for number in divmod(tap, layer.kernel_size))
    return y * signs.row + x + word * signs.plane


def _row(kind: int, columns: Mapping[int, int]) -> list[int]:
    row = [0] * NUM_COLUMNS
    row[KIND] = kind
    for column, value in columns.items():
        row[column] = int(value)
    return row
