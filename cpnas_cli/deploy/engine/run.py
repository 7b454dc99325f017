"""Runs packed models on the CPU, without torch.

The whole network is one compiled function that walks the program; it is compiled at the first use
(some seconds) and kept on disk by numba.
"""

# numba compiles the functions of this module: to a type checker they are plain Python without types.
# pyright: basic, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
import os
import zlib
from pathlib import Path

import numba
import numpy as np
from numba import njit, prange

from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine.bit_kernels import (
    PRODUCT_COLUMNS,
    add_grouped_row,
    add_products,
    concatenate_row,
    depthwise_3x3,
    depthwise_5x5,
    depthwise_any,
    pack_row,
)
from cpnas_cli.deploy.engine.compiler import compile_program
from cpnas_cli.deploy.engine.lanes import get_b, get_d, get_i, put_d, put_f
from cpnas_cli.deploy.engine.program import Program
from cpnas_cli.deploy.engine.real_kernels import (
    RECTIFY,
    add_pool,
    add_real_product,
    add_row,
    add_shortcut,
    classify,
    end_row,
    fill_row,
    stem_row,
    stem_row_whole,
)
from cpnas_cli.deploy.packed_file import PackedModel, load_packed
from cpnas_cli.errors import DataError, RunError, UsageError
from cpnas_cli.networks.layers import stem_layers
from cpnas_cli.networks.stem_arithmetic import IMAGE_STEPS, largest_step_of


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
            _grouped_row(step, y, steps, table, constants, reals, words, values, out, pixel, size, blocks, keep)
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
            source_size, is_max = get_i(steps, step + p.SOURCE_SIZE), get_i(steps, step + p.IS_MAX) == 1
            add_pool(values, reals, source, source_pixel, source_size, y, stride, is_max, scale, shift, out, pixel,
                     blocks, keep)  # fmt: skip
        else:
            halves, groups = get_i(steps, step + p.HALVES), get_i(steps, step + p.NUM_GROUPS)
            channels = get_i(steps, step + p.GROUP_CHANNELS)
            add_shortcut(values, source + y * (1 + halves) * source_row, source_pixel, source_row, halves == 1, groups,
                         channels, out, pixel, size, blocks, keep)  # fmt: skip
    _pack_row(row, y, memory)


@njit
def _grouped_row(step, y, steps, table, constants, reals, words, values, out, pixel, size, blocks, keep):
    stride, row = get_i(steps, step + p.STRIDE), get_i(steps, step + p.SOURCE_ROW)
    groups = table + get_i(steps, step + p.GROUPS) * 8
    add_grouped_row(words, constants, reals, groups, get_i(steps, step + p.WORDS), get_i(steps, step + p.WORDS_ROW),
                    get_i(steps, step + p.WORDS_PLANE), get_i(steps, step + p.GROUPED_SIZE),
                    get_i(steps, step + p.GROUPED_KERNEL), get_i(steps, step + p.GROUPED_DILATION), stride,
                    get_i(steps, step + p.PADDING), get_i(steps, step + p.FILTER_INPUTS), get_i(steps, step + p.SCALE),
                    get_i(steps, step + p.SHIFT), values, get_i(steps, step + p.SOURCE) + y * stride * row,
                    get_i(steps, step + p.SOURCE_PIXEL), row, y, out, pixel, size, blocks, keep)  # fmt: skip


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
def _concatenate(row, memory):
    instructions, _, _, table, _, _, _, _, words, _ = memory
    size, first = get_i(instructions, row + p.SIZE), get_i(instructions, row + p.FIRST_SOURCE)
    channels, num_words = get_i(instructions, row + p.CHANNELS), get_i(instructions, row + p.NUM_SIGN_WORDS)
    plane, signs_row = get_i(instructions, row + p.SIGNS_PLANE), get_i(instructions, row + p.SIGNS_ROW)
    for y in range(size):
        out = get_i(instructions, row + p.SIGNS) + y * signs_row
        concatenate_row(words, table, first, y, channels, num_words, out, plane, signs_row)


@njit
def _read_image(stem, image, lookup, values, doubles):
    """The image as the stem reads it: channels last, with a border of zeros."""
    in_size, channels = get_i(stem, p.STEM_SIZE), get_i(stem, p.STEM_CHANNELS)
    border, is_whole = get_i(stem, p.STEM_KERNEL) // 2, get_i(stem, p.WHOLE) == 1
    in_row = (in_size + 2 * border) * channels
    for c in range(channels):
        for y in range(in_size):
            place = get_i(stem, p.STEM_SOURCE) + (y + border) * in_row + border * channels + c
            for x in range(in_size):
                byte = np.int64(get_b(image, (c * in_size + y) * in_size + x))
                value = get_d(lookup, c * 256 + byte)
                if is_whole:
                    put_f(values, place + x * channels, np.float32(value))
                else:
                    put_d(doubles, place + x * channels, value)


@njit
def _stem(row, stems, image, lookup, memory):
    """One convolution of the stem; `row`: where its instruction begins."""
    instructions, _, _, _, _, reals, filters, values, _, doubles = memory
    stem = stems + get_i(instructions, row + p.FIRST_STEM) * 8
    if get_i(stem, p.READS_IMAGE) == 1:
        _read_image(stem, image, lookup, values, doubles)
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
    results = doubles if finish == RECTIFY else values
    for y in range(size):
        source = get_i(stem, p.STEM_SOURCE) + y * stride * source_row
        if is_whole:
            stem_row_whole(values, reals, reals, source, source_row, source_pixel, channels, kernel_size, stride,
                           get_i(stem, p.STEM_WEIGHTS), get_i(stem, p.STEM_SCALE), get_i(stem, p.STEM_SHIFT), results,
                           first + y * out_row, pixel, size, get_i(instructions, row + p.BLOCKS), finish,
                           largest)  # fmt: skip
        else:
            stem_row(doubles, filters, reals, source, source_row, source_pixel, channels, kernel_size, stride,
                     get_i(stem, p.STEM_WEIGHTS), get_i(stem, p.STEM_SCALE), get_i(stem, p.STEM_SHIFT), results,
                     first + y * out_row, pixel, size, get_i(instructions, row + p.BLOCKS), finish,
                     largest)  # fmt: skip
        if is_last:
            _node_row(row, y, memory, True)


@njit
def _run(program, lookup, image, values, words, doubles, first, last, logits):
    """The instructions from `first` to before `last`, for one image; all arguments but these two are addresses."""
    instructions, steps, products, table, constants, reals, filters, stem, head = program
    memory = (instructions, steps, products, table, constants, reals, filters, values, words, doubles)
    for index in range(first, last):
        row = index * p.NUM_COLUMNS
        kind = get_i(instructions, row + p.KIND)
        if kind == p.NODE:
            for y in range(get_i(instructions, row + p.SIZE)):
                _node_row(row, y, memory, False)
        elif kind == p.CONCATENATE:
            _concatenate(row, memory)
        elif kind == p.STEM:
            _stem(row, stem, image, lookup, memory)
        else:
            classify(values, reals, get_i(head, p.HEAD_SOURCE), get_i(head, p.HEAD_PIXEL), get_i(head, p.HEAD_PIXELS),
                     get_i(head, p.HEAD_FEATURES), get_i(head, p.HEAD_WEIGHTS), get_i(head, p.HEAD_BIAS),
                     get_i(head, p.HEAD_CLASSES), get_i(head, p.HEAD_MEANS), logits)  # fmt: skip


def _sources() -> int:
    """A number that changes with all that is compiled here: numba's cache on disk looks at this file alone."""
    return zlib.crc32(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


def _entry_points(sources: int, *, cache: bool):
    """For one thread and for several. A variable of the surrounding function is a part of the key of the cache."""

    @njit(cache=cache, nogil=True)
    def run_images(program, lookup, images, working, first, last, logits):
        """`images`, `working` and `logits`: (address, bytes from one to the next)."""
        if sources < 0:  # never: so that it is read
            return
        for index in range(logits[2]):
            image, scores = images[0] + index * images[1], logits[0] + index * logits[1]
            _run(program, lookup, image, working[0], working[2], working[4], first, last, scores)

    @njit(cache=cache, nogil=True, parallel=True)
    def run_images_in_parallel(program, lookup, images, working, first, last, logits, num_parts):
        if sources < 0:
            return
        num_images = logits[2]
        for part in prange(num_parts):
            values, words = working[0] + part * working[1], working[2] + part * working[3]
            doubles = working[4] + part * working[5]
            for index in range(part * num_images // num_parts, (part + 1) * num_images // num_parts):
                image, scores = images[0] + index * images[1], logits[0] + index * logits[1]
                _run(program, lookup, image, values, words, doubles, first, last, scores)

    return run_images, run_images_in_parallel


def _compiled():
    try:
        return _entry_points(_sources(), cache=True)
    except RuntimeError:  # numba finds no folder to write to: every process compiles for itself
        return _entry_points(_sources(), cache=False)


_run_images, _run_images_in_parallel = _compiled()


def _working_memory(program: Program, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For `count` images at once. Memory is granted before it is used, so it is compared with what the machine has."""
    needed = count * program.num_working_bytes
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else needed
    try:
        if needed > available:
            raise MemoryError
        return (
            np.zeros((count, program.num_values), np.float32),
            np.zeros((count, program.num_words), np.uint32),
            np.zeros((count, program.num_doubles), np.float64),
        )
    except MemoryError:
        raise RunError(
            f"the network needs {program.num_working_bytes / 2**30:.1f} GiB of working memory on each of {count} "
            "threads, which this machine does not have; use fewer threads"
        ) from None


class Runner:
    """A program with its working memory.

    Args:
      lookup: normalized pixels by channel and byte, float64 (C, 256); a program without a stem needs none.
      num_threads: at most this many; several images are shared out among them, one image runs on one. None: all.

    Raises:
      UsageError: `num_threads` is not positive. RunError: there is not enough memory.
    """

    def __init__(self, program: Program, *, lookup: np.ndarray | None = None, num_threads: int | None = None) -> None:
        available = numba.config.NUMBA_NUM_THREADS
        if num_threads is not None and num_threads < 1:
            raise UsageError(f"expected at least 1 thread, got {num_threads}")
        self.program = program
        self.num_threads = min(num_threads or available, available)
        # what the addresses point to: kept here for as long as they are used
        self._lookup = np.zeros(1) if lookup is None else lookup
        self._arrays = (
            program.instructions,
            program.steps,
            program.products,
            program.table,
            program.constants,
            program.reals,
            program.doubles,
            np.array(program.stem, np.int64),
            np.array(program.head, np.int64),
        )
        self._working = _working_memory(program, self.num_threads)

    def run(self, images_BCHW: np.ndarray, first: int = 0, last: int | None = None) -> np.ndarray:
        """Class scores, float32 (B, classes), of uint8 images (B, C, S, S) that fit the program.

        Args:
          first, last: only the instructions from the one to before the other, on what the others left in memory.
        """
        logits = np.zeros((len(images_BCHW), self.program.head[p.HEAD_CLASSES] if self.program.head else 1), np.float32)
        if len(images_BCHW) == 0:
            return logits
        images = np.ascontiguousarray(images_BCHW)
        arguments = (
            tuple(array.ctypes.data for array in self._arrays),
            self._lookup.ctypes.data,
            (images.ctypes.data, images.strides[0]),
            tuple(number for memory in self._working for number in (memory.ctypes.data, memory.strides[0])),
            first,
            len(self.program.instructions) if last is None else last,
            (logits.ctypes.data, logits.strides[0], len(logits)),
        )
        num_parts = min(self.num_threads, len(images))
        if num_parts == 1:
            _run_images(*arguments)
        else:
            previous = numba.get_num_threads()
            numba.set_num_threads(num_parts)
            try:
                _run_images_in_parallel(*arguments, num_parts)
            finally:
                numba.set_num_threads(previous)
        return logits


class Engine:
    """A packed model, ready to run.

    It works in memory of its own: only one Python thread may call it at a time.

    Args:
      num_threads: see `Runner`.

    Raises:
      UsageError, RunError: see `Runner`.
    """

    def __init__(self, model: PackedModel, *, num_threads: int | None = None) -> None:
        self.model = model
        self.runner = Runner(compile_program(model), lookup=_lookup_table(model), num_threads=num_threads)

    @staticmethod
    def load(path: Path, *, num_threads: int | None = None) -> "Engine":
        """Raises CheckpointError where `load_packed` does."""
        return Engine(load_packed(path), num_threads=num_threads)

    def warm_up(self, num_images: int = 1) -> None:
        """Compile what so many images need, if it is not compiled yet (some 20 seconds)."""
        count = min(num_images, self.runner.num_threads)
        size = self.model.image_size
        self.runner.run(np.zeros((count, self.model.num_image_channels, size, size), np.uint8))

    def logits(self, images_BCHW: np.ndarray) -> np.ndarray:
        """Class scores, float32 (B, classes), of uint8 images (B, C, S, S).

        Raises:
          DataError: the images have another shape or type.
        """
        expected = (self.model.num_image_channels, self.model.image_size, self.model.image_size)
        if images_BCHW.dtype != np.uint8 or images_BCHW.ndim != 4 or images_BCHW.shape[1:] != expected:
            raise DataError(
                f"expected uint8 images of shape (B, {', '.join(map(str, expected))}), "
                f"got {images_BCHW.dtype} of shape {images_BCHW.shape}"
            )
        return self.runner.run(images_BCHW)

    def probabilities(self, images_BCHW: np.ndarray) -> np.ndarray:
        """The softmax of `logits`: float32 (B, classes)."""
        logits = self.logits(images_BCHW)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)


def _lookup_table(model: PackedModel) -> np.ndarray:
    """What the stem reads, by channel and byte, with the roundings of `batches.Pipeline`: float64 (C, 256)."""
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    mean = np.array(model.mean, np.float32)[:, None]
    scale = np.float32(1) / np.array(model.std, np.float32)[:, None]
    normalized = (pixels - mean) * scale
    if model.settings.weight_format == "int8":
        first = stem_layers(model.settings, model.surroundings, precision="binary")[0]
        largest = largest_step_of(first, is_image=True)
        normalized = np.clip(np.rint(normalized * np.float32(IMAGE_STEPS)), -largest, largest)
    return normalized.astype(np.float64)
