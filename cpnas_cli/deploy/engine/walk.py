"""Walks a program: one compiled function, from one instruction to another and in each from row to row."""

# numba compiles the functions of this module: to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import numpy as np
from numba import njit

from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine.bit_kernels import (
    add_products,
    concatenate_row,
    depthwise_3x3,
    depthwise_5x5,
    depthwise_any,
    pack_row,
)
from cpnas_cli.deploy.engine.grouped_kernels import add_masked_patches_row, add_patches_row, gather
from cpnas_cli.deploy.engine.lanes import LANES, get_b, get_d, get_i, put_d, put_h
from cpnas_cli.deploy.engine.product_columns import PRODUCT_COLUMNS
from cpnas_cli.deploy.engine.real_kernels import (
    add_avg_pool,
    add_max_pool,
    add_real_product,
    add_row,
    add_shortcut,
    classify,
    end_row,
    fill_row,
)
from cpnas_cli.deploy.engine.stem_kernels import stem_row, stem_row_whole


@njit
def _node_row(row, y, memory, is_there):
    """One row of a node: its steps one after the other, then its signs.

    Args:
      row: where the instruction begins. is_there: whether the row holds values already, which the steps change.
    """
    instructions, steps, products, table, constants, reals, filters, values, words, _ = memory
    size, pixel = get_i(instructions, row + p.SIZE), get_i(instructions, row + p.PIXEL)
    blocks = get_i(instructions, row + p.BLOCKS)
    out = get_i(instructions, row + p.OUT) + y * size * pixel
    num_steps = get_i(instructions, row + p.NUM_STEPS)
    if num_steps == 0 and not is_there:
        fill_row(values, out, pixel, size, blocks)
    for index in range(num_steps):
        step = (get_i(instructions, row + p.FIRST_STEP) + index) * p.NUM_COLUMNS
        kind, keep = get_i(steps, step + p.KIND), get_i(steps, step + p.KEEP) == 1
        source, source_row = get_i(steps, step + p.SOURCE), get_i(steps, step + p.SOURCE_ROW)
        source_pixel, stride = get_i(steps, step + p.SOURCE_PIXEL), get_i(steps, step + p.STRIDE)
        weights = get_i(steps, step + p.WEIGHTS)
        scale, shift = get_i(steps, step + p.SCALE), get_i(steps, step + p.SHIFT)
        if kind == p.DEPTHWISE_3X3 or kind == p.DEPTHWISE_5X5 or kind == p.DEPTHWISE:
            _depthwise_row(kind, step, y, steps, table, constants, words)
        elif kind == p.PRODUCTS:
            first = products + get_i(steps, step + p.FIRST_PRODUCT) * PRODUCT_COLUMNS * 8
            count, out_blocks = get_i(steps, step + p.NUM_PRODUCTS), get_i(steps, step + p.OUT_BLOCKS)
            place = out + get_i(steps, step + p.OUT_CHANNEL)
            add_products(words, constants, reals, first, count, y, values, place, pixel, size, out_blocks, keep)
        elif kind == p.GROUPED:
            add_grouped_row(step, y, steps, table, constants, reals, words, values, out, pixel, size, blocks, keep)
        elif kind == p.ENDING:
            end_row(values, reals, out, pixel, size, blocks, get_i(steps, step + p.SLOPE),
                    get_i(steps, step + p.BEFORE), get_i(steps, step + p.AFTER),
                    get_i(steps, step + p.NUM_EDGES))  # fmt: skip
        elif kind == p.REAL_PRODUCT:
            num_inputs, out_blocks = get_i(steps, step + p.NUM_INPUTS), get_i(steps, step + p.REAL_OUT_BLOCKS)
            place = out + get_i(steps, step + p.REAL_OUT_CHANNEL)
            add_real_product(filters, reals, source + y * source_row, source_pixel, num_inputs, weights, scale, shift,
                             values, place, pixel, size, out_blocks, keep,
                             get_i(steps, step + p.RECTIFIES) == 1)  # fmt: skip
        elif kind == p.IDENTITY:
            add_row(values, source + y * source_row, source_pixel, out, pixel, size, blocks, keep)
        elif kind == p.POOL:
            source_size = get_i(steps, step + p.SOURCE_SIZE)
            if get_i(steps, step + p.IS_MAX) == 1:
                add_max_pool(values, reals, source, source_pixel, source_size, y, stride, scale, shift, out, pixel,
                             blocks, keep)  # fmt: skip
            else:
                add_avg_pool(values, reals, source, source_pixel, source_size, y, stride, scale, shift, out, pixel,
                             blocks, keep)  # fmt: skip
        else:
            halves, groups = get_i(steps, step + p.HALVES), get_i(steps, step + p.NUM_GROUPS)
            channels = get_i(steps, step + p.GROUP_CHANNELS)
            add_shortcut(values, source + y * (1 + halves) * source_row, source_pixel, source_row, halves == 1, groups,
                         channels, out, pixel, size, blocks, keep)  # fmt: skip
    _pack_row(row, y, memory)


@njit
def add_grouped_row(step, y, steps, table, constants, reals, words, values, out, pixel, size, blocks, keep):
    stride, row = get_i(steps, step + p.STRIDE), get_i(steps, step + p.SOURCE_ROW)
    in_row, plane = y * get_i(steps, step + p.PATCHES_ROW), get_i(steps, step + p.PATCHES_PLANE)
    start = get_i(table, get_i(steps, step + p.START_ROWS) + y)
    columns = get_i(steps, step + p.START_COLUMNS)
    residual, halves = get_i(steps, step + p.SOURCE) + y * stride * row, stride == 2
    residual_pixel = get_i(steps, step + p.SOURCE_PIXEL)
    for block in range(blocks):
        own, first = get_i(steps, step + p.BLOCKS_OF) + block * p.PATCH_BLOCK_COLUMNS, block * LANES
        patches = get_i(table, own + p.PATCHES) + in_row
        num_words, filters = get_i(table, own + p.PATCH_WORDS), get_i(table, own + p.PATCH_FILTERS)
        mask = get_i(table, own + p.PATCH_MASKS)
        scale, shift = get_i(steps, step + p.SCALE) + first, get_i(steps, step + p.SHIFT) + first
        if mask < 0:
            add_patches_row(words, constants, reals, patches, plane, num_words, filters, 0, table, columns,
                            start + first, scale, shift, values, residual + first, residual_pixel, row, halves,
                            out + first, pixel, size, keep)  # fmt: skip
        else:
            add_masked_patches_row(words, constants, reals, patches, plane, num_words, filters, mask, table, columns,
                                   start + first, scale, shift, values, residual + first, residual_pixel, row, halves,
                                   out + first, pixel, size, keep)  # fmt: skip


@njit
def gather_patches(row, begin, end, instructions, table, constants, words):
    """From vector `begin` of an image's pixels to before vector `end`."""
    plane, stride = get_i(instructions, row + p.GATHER_PLANE), get_i(instructions, row + p.GATHER_STRIDE)
    source = get_i(instructions, row + p.GATHER_SOURCE) + begin * LANES * stride
    count = min(end * LANES, get_i(instructions, row + p.GATHER_PIXELS)) - begin * LANES
    for index in range(get_i(instructions, row + p.NUM_PARTS)):
        part = get_i(instructions, row + p.FIRST_PART) + index * p.PART_COLUMNS
        gather(words, constants, table, get_i(table, part + p.PART_PIECES), get_i(table, part + p.PART_BITS),
               get_i(table, part + p.PART_WORDS), source, stride, count,
               get_i(table, part + p.PART_OUT) + begin * LANES, plane)  # fmt: skip


@njit
def _depthwise_row(kind, step, y, steps, table, constants, words):
    source_row, stride = get_i(steps, step + p.SOURCE_ROW), get_i(steps, step + p.STRIDE)
    source = get_i(steps, step + p.SOURCE) + y * stride * source_row
    plane, dilation = get_i(steps, step + p.SOURCE_PLANE), get_i(steps, step + p.DILATION)
    weights = get_i(steps, step + p.WEIGHTS)
    thresholds = get_i(table, get_i(steps, step + p.THRESHOLDS) + y)
    width, num_words = get_i(steps, step + p.WIDTH), get_i(steps, step + p.NUM_WORDS)
    slot = get_i(steps, step + p.SLOT)
    if kind == p.DEPTHWISE_3X3:
        depthwise_3x3(words, constants, source, source_row, plane, dilation, stride, weights, thresholds, width,
                      num_words, slot)  # fmt: skip
    elif kind == p.DEPTHWISE_5X5:
        depthwise_5x5(words, constants, source, source_row, plane, dilation, stride, weights, thresholds, width,
                      num_words, slot)  # fmt: skip
    else:
        depthwise_any(words, constants, source, source_row, plane, dilation, stride, weights, thresholds, width,
                      num_words, slot, get_i(steps, step + p.KERNEL))  # fmt: skip


@njit
def _pack_row(row, y, memory):
    instructions, _, _, _, constants, reals, _, values, words, _ = memory
    size, pixel = get_i(instructions, row + p.SIZE), get_i(instructions, row + p.PIXEL)
    source = get_i(instructions, row + p.OUT) + y * size * pixel
    out = get_i(instructions, row + p.SIGNS) + y * get_i(instructions, row + p.SIGNS_ROW)
    masks, plane = get_i(instructions, row + p.MASKS), get_i(instructions, row + p.SIGNS_PLANE)
    pack_row(values, source, pixel, size, masks, constants, words, out, plane,
             get_i(instructions, row + p.NUM_SIGN_WORDS), reals, get_i(instructions, row + p.SIGN_SHIFT))  # fmt: skip


@njit
def _concatenate(row, begin, end, memory):
    instructions, _, _, table, _, _, _, _, words, _ = memory
    first = get_i(instructions, row + p.FIRST_SOURCE)
    channels, num_words = get_i(instructions, row + p.CHANNELS), get_i(instructions, row + p.NUM_SIGN_WORDS)
    plane, signs_row = get_i(instructions, row + p.SIGNS_PLANE), get_i(instructions, row + p.SIGNS_ROW)
    for y in range(begin, end):
        out = get_i(instructions, row + p.SIGNS) + y * signs_row
        concatenate_row(words, table, first, y, channels, num_words, out, plane, signs_row)


@njit
def read_image(stem, begin, end, image, lookup, words, doubles):
    """Rows of the image as the stem reads them: channels last, with a border of zeros."""
    in_size, channels = get_i(stem, p.STEM_SIZE), get_i(stem, p.STEM_CHANNELS)
    border, is_whole = get_i(stem, p.STEM_KERNEL) // 2, get_i(stem, p.WHOLE) == 1
    in_row = (in_size + 2 * border) * channels
    for c in range(channels):
        for y in range(begin, end):
            place = get_i(stem, p.STEM_SOURCE) + (y + border) * in_row + border * channels + c
            for x in range(in_size):
                byte = np.int64(get_b(image, (c * in_size + y) * in_size + x))
                value = get_d(lookup, c * 256 + byte)
                if is_whole:
                    put_h(words, place + x * channels, np.int16(value))
                else:
                    put_d(doubles, place + x * channels, value)


@njit
def _stem(row, begin, end, stems, memory):
    """One convolution of the stem; `row`: where its instruction begins."""
    instructions, _, _, _, constants, reals, filters, values, words, doubles = memory
    stem = stems + get_i(instructions, row + p.FIRST_STEM) * 8
    kernel_size, stride = get_i(stem, p.STEM_KERNEL), get_i(stem, p.STEM_STRIDE)
    source_pixel, channels = get_i(stem, p.STEM_PIXEL), get_i(stem, p.STEM_CHANNELS)
    source_row = (get_i(stem, p.STEM_SIZE) + 2 * (kernel_size // 2)) * source_pixel
    size, finish = get_i(instructions, row + p.SIZE), get_i(stem, p.FINISH)
    largest, is_whole = get_i(stem, p.NEXT_LARGEST), get_i(stem, p.WHOLE) == 1
    is_last = get_i(stem, p.NEXT) < 0
    if is_last:
        pixel, first = get_i(instructions, row + p.PIXEL), get_i(instructions, row + p.OUT)
        out_row = size * pixel
    else:  # behind the border, whose width the next kernel shares
        pixel, out_row = get_i(stem, p.NEXT_PIXEL), get_i(stem, p.NEXT_ROW)
        first = get_i(stem, p.NEXT) + kernel_size // 2 * (out_row + pixel)
    results = values if finish == p.STORE else doubles if finish == p.RECTIFY else words
    for y in range(begin, end):
        source = get_i(stem, p.STEM_SOURCE) + y * stride * source_row
        if is_whole:
            stem_row_whole(words, constants, reals, source, source_row, source_pixel, get_i(stem, p.RUNS),
                           get_i(stem, p.PAIRS), kernel_size, stride, get_i(stem, p.STEM_WEIGHTS),
                           get_i(stem, p.STEM_SCALE), get_i(stem, p.STEM_SHIFT), results, first + y * out_row, pixel,
                           size, get_i(instructions, row + p.BLOCKS), finish, largest)  # fmt: skip
        else:
            stem_row(doubles, filters, reals, source, source_row, source_pixel, channels, kernel_size, stride,
                     get_i(stem, p.STEM_WEIGHTS), get_i(stem, p.STEM_SCALE), get_i(stem, p.STEM_SHIFT), results,
                     first + y * out_row, pixel, size, get_i(instructions, row + p.BLOCKS), finish)  # fmt: skip
        if is_last:
            _node_row(row, y, memory, True)


@njit
def num_rows_of(row, instructions):
    """Rows of an instruction; of GATHER vectors of pixels."""
    kind = get_i(instructions, row + p.KIND)
    if kind == p.CLASSIFY:
        return 1
    if kind == p.GATHER:
        return (get_i(instructions, row + p.GATHER_PIXELS) + LANES - 1) // LANES
    return get_i(instructions, row + p.SIZE)


@njit
def run_rows(index, begin, end, stem, head, logits, memory):
    """Rows of an instruction, from `begin` to before `end`."""
    instructions, _, _, table, constants, reals, _, values, words, _ = memory
    row = index * p.NUM_COLUMNS
    kind = get_i(instructions, row + p.KIND)
    if kind == p.NODE:
        for y in range(begin, end):
            _node_row(row, y, memory, False)
    elif kind == p.GATHER:
        gather_patches(row, begin, end, instructions, table, constants, words)
    elif kind == p.CONCATENATE:
        _concatenate(row, begin, end, memory)
    elif kind == p.STEM:
        _stem(row, begin, end, stem, memory)
    else:
        classify(values, reals, get_i(head, p.HEAD_SOURCE), get_i(head, p.HEAD_PIXEL), get_i(head, p.HEAD_PIXELS),
                 get_i(head, p.HEAD_FEATURES), get_i(head, p.HEAD_WEIGHTS), get_i(head, p.HEAD_BIAS),
                 get_i(head, p.HEAD_CLASSES), get_i(head, p.HEAD_MEANS), logits)  # fmt: skip


@njit(inline="always")
def run_program(first, last, stem, head, image, lookup, logits, memory):
    """The instructions from `first` to before `last`, for one image; all others are addresses."""
    instructions, words, doubles = memory[0], memory[8], memory[9]
    for index in range(first, last):
        row = index * p.NUM_COLUMNS
        num_rows = num_rows_of(row, instructions)
        if get_i(instructions, row + p.KIND) == p.STEM:
            own = stem + get_i(instructions, row + p.FIRST_STEM) * 8
            if get_i(own, p.READS_IMAGE) == 1:
                read_image(own, 0, get_i(own, p.STEM_SIZE), image, lookup, words, doubles)
        run_rows(index, 0, num_rows, stem, head, logits, memory)
