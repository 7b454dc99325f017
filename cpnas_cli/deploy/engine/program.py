"""A packed model laid out for the kernels: a list of instructions, constants in vector order, and a plan of memory.

An instruction computes a whole image of something, row by row:

  STEM         the real convolution at the start
  NODE         a preprocessed input or a node of a cell: its steps are added up row by row, then its signs are packed
  CONCATENATE  the signs of a cell's four nodes side by side, which the next cells read
  GATHER       what the filters of grouped convolutions read of a node, pixel by pixel
  CLASSIFY     mean over the pixels and linear layer

The tables hold whole numbers, mostly offsets into the constants or into the working memory; their columns
are named below. Nothing here is computed per image.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cpnas_cli.deploy.engine import product_columns

# Kinds of instructions and of steps of a node.
STEM, NODE, CONCATENATE, CLASSIFY, GATHER = range(5)
DEPTHWISE_3X3, DEPTHWISE_5X5, PRODUCTS, REAL_PRODUCT, IDENTITY, POOL, SHORTCUT, DEPTHWISE, GROUPED, ENDING = range(10)
# Sizes of filters with a kernel of their own; DEPTHWISE takes any up to 11x11.
OWN_KERNELS = {3: DEPTHWISE_3X3, 5: DEPTHWISE_5X5}
DEPTHWISE_KINDS = (DEPTHWISE_3X3, DEPTHWISE_5X5, DEPTHWISE)

NUM_COLUMNS = 24
KIND = 0
# Columns of an instruction. CONCATENATE has the table of its sources and the nodes' channels in place of the steps.
# WAITS: whether a row reads or overwrites what other rows of the instructions before have to do with (see `sharing`).
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
    WAITS,
) = range(1, 15)
FIRST_SOURCE, CHANNELS = FIRST_STEP, NUM_STEPS
# Of GATHER: the word of the first pixel, words to the next, pixels, words from one of a patch to the next, and where in
# the table its parts begin: where the pieces of each stand in the table and in the constants, words of a patch, and
# where they go.
(GATHER_SOURCE, GATHER_STRIDE, GATHER_PIXELS, GATHER_PLANE, FIRST_PART, NUM_PARTS) = range(1, 7)
(PART_PIECES, PART_BITS, PART_WORDS, PART_OUT) = range(4)
PART_COLUMNS = 4
# Columns of a step; KEEP: whether it adds to what the steps before it left.
KEEP = 1
(SOURCE, SOURCE_ROW, SOURCE_PIXEL, STRIDE, WEIGHTS, SCALE, SHIFT) = range(2, 9)
(SOURCE_PLANE, DILATION, THRESHOLDS, WIDTH, NUM_WORDS, SLOT, KERNEL) = range(9, 16)  # of a depthwise convolution
(FIRST_PRODUCT, NUM_PRODUCTS, OUT_CHANNEL, OUT_BLOCKS) = range(2, 6)  # of products
(NUM_INPUTS, REAL_OUT_CHANNEL, REAL_OUT_BLOCKS, RECTIFIES) = range(9, 13)  # of a real product
(SOURCE_SIZE, IS_MAX) = range(9, 11)  # of a pooling
(HALVES, NUM_GROUPS, GROUP_CHANNELS) = range(9, 12)  # of a shortcut
# Of a grouped convolution; SOURCE, SOURCE_ROW, SOURCE_PIXEL are of its residual. Where its blocks and what its sums
# start with, by row and by column, stand in the table; patches from a row to the next, words from one of theirs to the
# next.
(BLOCKS_OF, START_ROWS, START_COLUMNS, PATCHES_ROW, PATCHES_PLANE) = range(9, 14)
# Of a block of 16 filters: offset of the patches; words of one; offsets of filters and masks (-1: all read all).
(PATCHES, PATCH_WORDS, PATCH_FILTERS, PATCH_MASKS) = range(4)
PATCH_BLOCK_COLUMNS = 4
(SLOPE, BEFORE, AFTER, NUM_EDGES) = range(2, 6)  # of an ending; -1 for what there is not
# Of a convolution of the stem: rows and columns of its image and its channels; kernel and stride; offsets of weights,
# scale and shift; whether it computes in whole numbers; where its image is, and values from a pixel to the next; where
# the next one's is (-1: there is none), values from a pixel and from a row to the next, and the largest of them; how a
# row is finished; whether its image is the network's; runs of a filter's row and pairs of a run. Of
# whole numbers, images are int16 among the words, and their offsets count these.
(STEM_SIZE, STEM_CHANNELS, STEM_KERNEL, STEM_STRIDE, STEM_WEIGHTS, STEM_SCALE, STEM_SHIFT, WHOLE, STEM_SOURCE,
 STEM_PIXEL, NEXT, NEXT_PIXEL, NEXT_ROW, NEXT_LARGEST, FINISH, READS_IMAGE, RUNS, PAIRS) = range(18)  # fmt: skip
# How a row of the stem is finished: as float32 values, as max(x, 0) in float64, as whole steps.
STORE, RECTIFY, STEPS = range(3)
# Of the head: offset of the features, values from a pixel to the next, pixels; offsets of weights, bias and room for
# the means; classes.
(HEAD_SOURCE, HEAD_PIXEL, HEAD_PIXELS, HEAD_FEATURES, HEAD_WEIGHTS, HEAD_BIAS, HEAD_MEANS, HEAD_CLASSES) = range(8)


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
      num_slot_words: the last ones of these words, which hold a row of signs; every thread needs its own.
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
    num_slot_words: int
    stem: tuple[int, ...]
    head: tuple[int, ...]

    @property
    def num_working_bytes(self) -> int:
        """Of the working memory for one image."""
        return 4 * self.num_values + 4 * self.num_words + 8 * self.num_doubles

    def tables_of_thread(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """`steps` and `products` for one of several threads that share the working memory: it has slots of its own."""
        steps, products = self.steps.copy(), self.products.copy()
        steps[np.isin(steps[:, KIND], DEPTHWISE_KINDS), SLOT] += number * self.num_slot_words
        products[products[:, product_columns.ROW] == 0, product_columns.WORDS] += number * self.num_slot_words
        return steps, products
