"""A packed model laid out for the kernels: a list of instructions, constants in vector order, and a plan of memory.

An instruction computes a whole image of something, row by row:

  STEM         the real convolution at the start
  NODE         a preprocessed input or a node of a cell: its steps are added up row by row, then its signs are packed
  CONCATENATE  the signs of a cell's four nodes side by side, which the next cells read
  CLASSIFY     mean over the pixels and linear layer

The tables hold whole numbers, mostly offsets into the constants or into the working memory; their columns
are named below. Nothing here is computed per image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cpnas_cli.deploy.engine import bit_kernels
from cpnas_cli.deploy.engine.lanes import LANES
from cpnas_cli.deploy.packed_file import LayerArrays
from cpnas_cli.networks.layer import Layer

WORD_BITS = 32

# Kinds of instructions and of steps of a node.
STEM, NODE, CONCATENATE, CLASSIFY = range(4)
DEPTHWISE_3X3, DEPTHWISE_5X5, PRODUCTS, REAL_PRODUCT, IDENTITY, POOL, SHORTCUT, DEPTHWISE, GROUPED, ENDING = range(10)
# Sizes of filters with a kernel of their own; DEPTHWISE takes any up to 11x11.
OWN_KERNELS = {3: DEPTHWISE_3X3, 5: DEPTHWISE_5X5}

NUM_COLUMNS = 24
KIND = 0
# Columns of an instruction. CONCATENATE has the table of its sources and the nodes' channels in place of the steps.
(
    OUT,
    PIXEL,
    SIZE,
    BLOCKS,
    FIRST_STEP,
    NUM_STEPS,
    SIGNS,
    SIGNS_ROW,
    SIGNS_PLANE,
    NUM_SIGN_WORDS,
    MASKS,
    SIGN_SHIFT,
    FIRST_STEM,
) = range(1, 14)
FIRST_SOURCE, CHANNELS = FIRST_STEP, NUM_STEPS
# Columns of a step; KEEP: whether it adds to what the steps before it left.
KEEP = 1
(SOURCE, SOURCE_ROW, SOURCE_PIXEL, STRIDE, WEIGHTS, SCALE, SHIFT) = range(2, 9)
(SOURCE_PLANE, DILATION, THRESHOLDS, WIDTH, NUM_WORDS, SLOT, KERNEL) = range(9, 16)  # of a depthwise convolution
(FIRST_PRODUCT, NUM_PRODUCTS, OUT_CHANNEL, OUT_BLOCKS) = range(2, 6)  # of products
(NUM_INPUTS, REAL_OUT_CHANNEL, REAL_OUT_BLOCKS, RECTIFIES) = range(9, 13)  # of a real product
(SOURCE_SIZE, IS_MAX) = range(9, 11)  # of a pooling
(HALVES, NUM_GROUPS, GROUP_CHANNELS) = range(9, 12)  # of a shortcut
# Of a grouped convolution; SOURCE, SOURCE_ROW, SOURCE_PIXEL are of its residual.
(GROUPS, WORDS, WORDS_ROW, WORDS_PLANE, GROUPED_SIZE, GROUPED_KERNEL, GROUPED_DILATION, PADDING, FILTER_INPUTS) = range(
    9, 18
)
(SLOPE, BEFORE, AFTER, NUM_EDGES) = range(2, 6)  # of an ending; -1 for what there is not
# Of a convolution of the stem: rows and columns of its image and its channels; kernel and stride; offsets of weights,
# scale and shift; whether it computes in whole numbers; where its image is, and values from a pixel to the next; where
# the next one's is (-1: there is none), values from a pixel and from a row to the next, and the largest of them; how a
# row is finished (`real_kernels`); whether its image is the network's.
(STEM_SIZE, STEM_CHANNELS, STEM_KERNEL, STEM_STRIDE, STEM_WEIGHTS, STEM_SCALE, STEM_SHIFT, WHOLE, STEM_SOURCE,
 STEM_PIXEL, NEXT, NEXT_PIXEL, NEXT_ROW, NEXT_LARGEST, FINISH, READS_IMAGE) = range(16)  # fmt: skip
# Of the head: offset of the features, values from a pixel to the next, pixels; offsets of weights, bias and room for
# the means; classes.
(HEAD_SOURCE, HEAD_PIXEL, HEAD_PIXELS, HEAD_FEATURES, HEAD_WEIGHTS, HEAD_BIAS, HEAD_MEANS, HEAD_CLASSES) = range(8)


def num_blocks(channels: int) -> int:
    """Vectors that hold this many channels."""
    return -(-channels // LANES)


def num_words(channels: int) -> int:
    return -(-channels // WORD_BITS)


def whole_vectors(size: int) -> int:
    return num_blocks(size) * LANES


class Values(NamedTuple):
    """Real values of an image in the working memory."""

    offset: int
    pixel: int  # values from a pixel to the next
    size: int  # rows and columns

    @property
    def row(self) -> int:
        return self.pixel * self.size


class Words(NamedTuple):
    """Signs of an image in the working memory; `offset` is the first word of the first row, inside the border."""

    offset: int
    row: int
    plane: int
    num_words: int


@dataclass(frozen=True)
class Program:
    """See the module's text; the arrays are contiguous.

    Attributes:
      instructions, steps: int64, (n, NUM_COLUMNS).
      products: int64, (n, bit_kernels.PRODUCT_COLUMNS).
      table: int64; offsets of thresholds by row, and sources of concatenations.
      constants, reals, doubles: uint32, float32, float64.
      num_values, num_words, num_doubles: the working memory for one image.
      stem: the columns of its convolutions, one after the other. head: its columns. Empty where there is none.
    """

    instructions: np.ndarray
    steps: np.ndarray
    products: np.ndarray
    table: np.ndarray
    constants: np.ndarray
    reals: np.ndarray
    doubles: np.ndarray
    num_values: int
    num_words: int
    num_doubles: int
    stem: tuple[int, ...]
    head: tuple[int, ...]

    @property
    def num_working_bytes(self) -> int:
        """Of the working memory for one image."""
        return 4 * self.num_values + 4 * self.num_words + 8 * self.num_doubles


@dataclass
class _Constants:
    """Growing constants of one type; every entry starts at a whole vector."""

    dtype: type
    parts: list[np.ndarray] = field(default_factory=list)
    size: int = 0

    def add(self, values: np.ndarray) -> int:
        flat = np.zeros(whole_vectors(max(values.size, 1)), self.dtype)
        flat[: values.size] = values.ravel()
        self.parts.append(flat)
        self.size += flat.size
        return self.size - flat.size

    def array(self) -> np.ndarray:
        # vectors are read whole: there must be room behind the last entry
        return np.concatenate([*self.parts, np.zeros(4 * LANES, self.dtype)])


@dataclass
class _Memory:
    """The plan of one kind of working memory: regions by name and size, one after the other."""

    offsets: dict[tuple[object, int], int] = field(default_factory=dict)
    size: int = 0

    def region(self, name: object, size: int) -> int:
        """Its offset. The same name and size is the same region, so that cells share what they need in turn."""
        if (name, size) not in self.offsets:
            self.offsets[name, size] = self.size
            # vectors are read and written whole: there must be room behind the last element
            self.size += whole_vectors(size) + 4 * LANES
        return self.offsets[name, size]


class ProgramBuilder:
    """Collects constants, instructions and the plan of memory."""

    def __init__(self) -> None:
        self.value_memory, self.word_memory, self.double_memory = _Memory(), _Memory(), _Memory()
        self.constants, self.reals, self.doubles = _Constants(np.uint32), _Constants(np.float32), _Constants(np.float64)
        self.instructions = list[list[int]]()
        self.steps, self.products, self.table = list[list[int]](), list[list[int]](), list[int]()
        self.stem = list[int]()

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
        return Words(self.word_memory.region(("slot", index), width * words), 0, width, words)

    def instruction(self, kind: int, columns: Mapping[int, int]) -> None:
        self.instructions.append(_row(kind, columns))

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
        return self.doubles.add(_filters_by_vectors(weights))

    def whole_filters(self, weights: np.ndarray) -> int:
        """Filters of whole numbers, like `real_filters`, as float32."""
        return self.reals.add(_filters_by_vectors(weights))

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
        row = [0] * bit_kernels.PRODUCT_COLUMNS
        row[bit_kernels.WORDS] = source.offset + first * (source.row + 1)
        row[bit_kernels.STEP], row[bit_kernels.PLANE] = layer.stride, source.plane
        row[bit_kernels.NUM_WORDS] = source.num_words
        row[bit_kernels.WEIGHTS] = self.filters(arrays.signs.reshape(layer.out_channels, -1))
        row[bit_kernels.NUM_INPUTS] = layer.in_channels
        row[bit_kernels.SCALE], row[bit_kernels.SHIFT] = self.channels(arrays.scale), self.channels(arrays.shift)
        row[bit_kernels.ROW] = layer.stride * source.row
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
        """A grouped convolution with its residual."""
        columns = {
            KEEP: keep,
            SOURCE: source.offset,
            SOURCE_ROW: source.row,
            SOURCE_PIXEL: source.pixel,
            STRIDE: layer.stride,
            SCALE: self.channels(arrays.scale),
            SHIFT: self.channels(arrays.shift),
            GROUPS: len(self.table),
            WORDS: signs.offset,
            WORDS_ROW: signs.row,
            WORDS_PLANE: signs.plane,
            GROUPED_SIZE: layer.in_size,
            GROUPED_KERNEL: layer.kernel_size,
            GROUPED_DILATION: layer.dilation,
            PADDING: layer.padding,
            FILTER_INPUTS: layer.inputs_per_filter,
        }
        for first_word, filters, masks in grouped_filters(arrays.signs, layer.groups):
            self.table += [first_word, len(masks), self.constants.add(filters), self.constants.add(masks)]
        return _row(GROUPED, columns)

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
        self.instruction(NODE, columns)


def _row(kind: int, columns: Mapping[int, int]) -> list[int]:
    row = [0] * NUM_COLUMNS
    row[KIND] = kind
    for column, value in columns.items():
        row[column] = int(value)
    return row


def _filters_by_vectors(weights: np.ndarray) -> np.ndarray:
    """(C_out, C_in, k, k) -> (blocks, taps, 16); taps with the input channel last."""
    out_channels = weights.shape[0]
    taps = weights.transpose(0, 2, 3, 1).reshape(out_channels, -1)
    padded = np.zeros((num_blocks(out_channels) * LANES, taps.shape[1]))
    padded[:out_channels] = taps
    return padded.reshape(-1, LANES, taps.shape[1]).transpose(0, 2, 1)


def grouped_filters(signs: np.ndarray, num_groups: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """By 16 output channels: the first word of the input that they read, their signs as words, and masks.

    Args:
      signs: bool, (C_out, C_in / groups, k, k).

    Returns:
      for each 16: a number, uint32 (k * k, words, 16) and uint32 (words, 16); 1 in a mask is an input of the filter.
    """
    out_channels, inputs = signs.shape[:2]
    taps = signs.reshape(out_channels, inputs, -1)
    blocks = list[tuple[int, np.ndarray, np.ndarray]]()
    for start in range(0, out_channels, LANES):
        own = range(start, min(start + LANES, out_channels))
        begins = [channel // (out_channels // num_groups) * inputs for channel in own]
        first_word = min(begins) // WORD_BITS
        words = num_words(max(begins) + inputs) - first_word
        bits = np.zeros((taps.shape[2], LANES, words * WORD_BITS), bool)
        masks = np.zeros((LANES, words * WORD_BITS), bool)
        for lane, (channel, begin) in enumerate(zip(own, begins, strict=True)):
            place = begin - first_word * WORD_BITS
            bits[:, lane, place : place + inputs] = taps[channel].T
            masks[lane, place : place + inputs] = True
        packed = np.packbits(bits, axis=2, bitorder="little").view(np.uint32).transpose(0, 2, 1)
        packed_masks = np.packbits(masks, axis=1, bitorder="little").view(np.uint32).T
        blocks.append((first_word, np.ascontiguousarray(packed), np.ascontiguousarray(packed_masks)))
    return blocks


def _valid_taps(layer: Layer, position: int) -> tuple[bool, ...]:
    """Which taps of a row (or column) of the filter lie inside the image, for a row (or column) of results."""
    first = position * layer.stride - layer.padding
    return tuple(0 <= first + tap * layer.dilation < layer.in_size for tap in range(layer.kernel_size))


def row_patterns(layer: Layer) -> list[int]:
    """For every row of results, the number of its pattern of valid taps."""
    patterns = list(dict.fromkeys(_valid_taps(layer, y) for y in range(layer.out_size)))
    return [patterns.index(_valid_taps(layer, y)) for y in range(layer.out_size)]


def threshold_planes(layer: Layer, signs: np.ndarray, thresholds: np.ndarray) -> list[np.ndarray]:
    """Per pattern of rows: negated binary digits of the least count of agreeing taps, uint32 (digits, words, width).

    The sum n of the valid taps is 2 a - v for a agreeing ones among v, so n >= t where a >= (t + v) / 2. A tap
    beyond the image reads 0, which agrees with a filter's -1: the count to compare with has these in it.
    """
    width, words = whole_vectors(layer.out_size), num_words(layer.in_channels)
    negative = ~signs[:, 0]  # (C, k, k)
    columns = np.array([_valid_taps(layer, x) for x in range(layer.out_size)])  # (W, k)
    patterns = row_patterns(layer)
    planes = list[np.ndarray]()
    for index in range(max(patterns) + 1):
        row = np.array(_valid_taps(layer, patterns.index(index)))  # (k,)
        valid = row[None, :, None] & columns[:, None, :]  # (W, k, k)
        num_valid = valid.sum(axis=(1, 2))  # (W,)
        outside = np.einsum("cij,xij->xc", negative.astype(int), (~valid).astype(int))  # (W, C)
        least = np.clip(-((-(thresholds[None].astype(int) + num_valid[:, None])) // 2), 0, num_valid[:, None] + 1)
        planes.append(_negated_digits(least + outside, layer.kernel_size, width, words))
    return planes


def _negated_digits(counts: np.ndarray, kernel_size: int, width: int, words: int) -> np.ndarray:
    """Whole numbers (W, C) as negated binary digits over channels: (digits, words, width)."""
    num_digits = {3: 4, 5: 5}.get(kernel_size, 7)  # as many as the kernel of this size compares
    size, channels = counts.shape
    digits = np.zeros((num_digits, width, words * WORD_BITS), bool)
    for digit in range(num_digits):
        digits[digit, :size, :channels] = (counts >> digit) & 1 == 0
    packed = np.packbits(digits, axis=2, bitorder="little").view(np.uint32)  # (digits, width, words)
    return np.ascontiguousarray(packed.transpose(0, 2, 1))
