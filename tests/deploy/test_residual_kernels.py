"""The kernels of residual blocks and of stems in whole numbers, each against a plain loop in numpy, to the bit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels import (
    LANES,
    SEEDS,
    Memory,
    affine,
    arrays_of,
    check_only_written,
    convolution,
    places,
    random_reals,
    random_signs,
)

from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine import real_kernels, stem_kernels, walk
from cpnas_cli.deploy.engine.builder import ProgramBuilder
from cpnas_cli.deploy.engine.layout import num_blocks, whole_vectors
from cpnas_cli.networks.layer import Layer

SOME = settings(max_examples=25, deadline=None, derandomize=True)


# ---------------------------------------------------------------- grouped convolutions


def grouped_sums(x_CHW: np.ndarray, w: np.ndarray, *, stride: int, dilation: int, groups: int) -> np.ndarray:
    """Sums of products of +1 and -1 over the taps inside the image: whole numbers (C_out, H / stride, W / stride)."""
    out_channels, inputs, kernel_size, _ = w.shape
    size, padding = x_CHW.shape[1], dilation * (kernel_size - 1) // 2
    result = np.zeros((out_channels, size // stride, size // stride))
    for o, y, x in np.ndindex(result.shape):
        first = o // (out_channels // groups) * inputs
        for i, j in itertools.product(range(kernel_size), repeat=2):
            row, column = y * stride - padding + i * dilation, x * stride - padding + j * dilation
            if 0 <= row < size and 0 <= column < size:
                result[o, y, x] += (x_CHW[first : first + inputs, row, column] * w[o, :, i, j]).sum()
    return result


@SOME
@given(
    shape=st.tuples(st.integers(1, 8), st.integers(1, 70)).filter(lambda shape: shape[0] * shape[1] <= 140),
    size=st.integers(1, 9),
    kernel_size=st.sampled_from([3, 5, 7]),
    dilation=st.sampled_from([1, 2]),
    stride=st.sampled_from([1, 2]),
    more_border=st.sampled_from([0, 3]),
    keep=st.booleans(),
    seed=SEEDS,
)
def test_a_grouped_convolution_with_its_residual(
    shape: tuple[int, int],
    size: int,
    kernel_size: int,
    dilation: int,
    stride: int,
    more_border: int,
    keep: bool,
    seed: int,
) -> None:
    """Any number of channels and groups; images smaller than the filter; (sum * scale + shift) + residual."""
    generator, builder = np.random.default_rng(seed), ProgramBuilder()
    groups, inputs = shape
    channels, in_size = groups * inputs, size * stride
    layer = convolution(
        channels, channels, in_size, kernel_size=kernel_size, stride=stride, dilation=dilation, groups=groups
    )
    border = layer.padding + more_border
    words = builder.words("source", channels=channels, size=in_size, border=border)
    source = builder.values("source", pixel=whole_vectors(channels) + 3, size=in_size)
    out = builder.values("out", pixel=whole_vectors(channels) + 5, size=size)
    x, w = random_signs(generator, channels, in_size, in_size), random_signs(generator, *weights_of(layer))
    own = arrays_of(signs=w, scale=random_reals(generator, channels), shift=random_reals(generator, channels))
    step = builder.grouped(layer, own, words, source, keep=keep)
    value, before = random_reals(generator, channels, in_size, in_size), random_reals(generator, channels, size, size)
    memory = Memory(builder)
    memory.put_signs(words, x, border=border)
    memory.put_values(source, value)
    memory.put_values(out, before)
    untouched = memory.values.copy()
    steps, instructions = np.array([step], np.int64), np.array(builder.instructions, np.int64)
    for index in range(len(instructions)):
        assert instructions[index, p.KIND] == p.GATHER
        walk.gather_patches(
            index * p.NUM_COLUMNS,
            0,
            num_blocks(instructions[index, p.GATHER_PIXELS]),
            instructions.ctypes.data,
            memory.table.ctypes.data,
            memory.constants.ctypes.data,
            memory.words.ctypes.data,
        )
    for y in range(size):
        walk.add_grouped_row(
            0,
            y,
            steps.ctypes.data,
            memory.table.ctypes.data,
            memory.constants.ctypes.data,
            memory.reals.ctypes.data,
            memory.words.ctypes.data,
            memory.values.ctypes.data,
            out.offset + y * out.row,
            out.pixel,
            size,
            num_blocks(channels),
            keep,
        )
    sums = grouped_sums(np.where(x, 1, -1), np.where(w, 1, -1), stride=stride, dilation=dilation, groups=groups)
    expected = affine(sums, own) + (halved(value) if stride == 2 else value)
    np.testing.assert_array_equal(memory.image(out, channels), before + expected if keep else expected)
    check_only_written(untouched, memory.values, places(out, whole_vectors(channels)))


def weights_of(layer: Layer) -> tuple[int, int, int, int]:
    return layer.out_channels, layer.inputs_per_filter, layer.kernel_size, layer.kernel_size


def halved(x_CHW: np.ndarray) -> np.ndarray:
    """The mean over 2x2 pixels, added in the order of reading, in float32."""
    rows = x_CHW[:, ::2, ::2] + x_CHW[:, ::2, 1::2] + x_CHW[:, 1::2, ::2] + x_CHW[:, 1::2, 1::2]
    return rows / np.float32(4)


# ---------------------------------------------------------------- endings


@pytest.mark.parametrize("num_edges", [1, 3, 5])
@pytest.mark.parametrize("num_rows", [0, 1, 3])
@pytest.mark.parametrize("channels", [1, 16, 21, 40])
def test_an_ending_in_place(channels: int, num_rows: int, num_edges: int) -> None:
    """The mean over edges of a sum; then x where x > 0, else slope * x, with the shifts around it; 0 and -0.0 too."""
    generator, builder = np.random.default_rng(channels), ProgramBuilder()
    out = builder.values("out", pixel=whole_vectors(channels) + 2, size=3)
    rows = random_reals(generator, num_rows, channels)
    step = builder.ending(rows, num_edges=num_edges)
    memory = Memory(builder)
    x = random_reals(generator, channels, 3, 3)
    x[:, 0, 0], x[:, 0, 1] = 0.0, -0.0
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    before, slope, after = rows if num_rows == 3 else (zeros, rows[0] if num_rows else ones, zeros)
    x[:, 0, 2] = -before * num_edges
    memory.put_values(out, x)
    untouched = memory.values.copy()
    for y in (0, 2):
        real_kernels.end_row(
            memory.values.ctypes.data,
            memory.reals.ctypes.data,
            out.offset + y * out.row,
            out.pixel,
            3,
            num_blocks(channels),
            step[p.SLOPE],
            step[p.BEFORE],
            step[p.AFTER],
            step[p.NUM_EDGES],
        )
    moved = x * np.float32(1 / num_edges) + before[:, None, None]
    expected = np.where(moved > 0, moved, moved * slope[:, None, None]) + after[:, None, None]
    found = memory.image(out, channels)
    np.testing.assert_array_equal(found[:, (0, 2)], expected[:, (0, 2)])
    np.testing.assert_array_equal(found[:, 1], x[:, 1])
    check_only_written(untouched, memory.values, places(out, whole_vectors(channels))[:, (0, 2)])


# ---------------------------------------------------------------- the stem


def plain_convolution(x_CHW: np.ndarray, w: np.ndarray, *, stride: int) -> np.ndarray:
    """With a border of zeros, in float64: exact for what is given here."""
    kernel_size = w.shape[-1]
    border, size = kernel_size // 2, x_CHW.shape[1] // stride
    padded = np.pad(x_CHW, ((0, 0), (border, border), (border, border))).astype(np.float64)
    result = np.zeros((w.shape[0], size, size))
    for o, y, x in np.ndindex(result.shape):
        part = padded[:, y * stride : y * stride + kernel_size, x * stride : x * stride + kernel_size]
        result[o, y, x] = (part * w[o]).sum()
    return result


RESULTS = {p.STORE: np.float32, p.RECTIFY: np.float64, p.STEPS: np.int16}


@SOME
@given(
    num_channels=st.integers(1, 20),
    out_channels=st.integers(1, 40),
    size=st.integers(1, 9),
    kernel_size=st.sampled_from([3, 7]),
    stride=st.sampled_from([1, 2, 4]),
    finish_whole=st.sampled_from(
        [
            (p.STORE, True),
            (p.STEPS, True),
            (p.STORE, False),
            (p.RECTIFY, False),
        ]
    ),
    largest=st.integers(1, 255),
    seed=SEEDS,
)
def test_a_convolution_of_the_stem(
    num_channels: int,
    out_channels: int,
    size: int,
    kernel_size: int,
    stride: int,
    finish_whole: tuple[int, bool],
    largest: int,
    seed: int,
) -> None:
    """In whole numbers and in float64; left as values, as max(x, 0), or as whole steps of 1/32 up to the largest."""
    generator, builder = np.random.default_rng(seed), ProgramBuilder()
    finish, whole = finish_whole
    border, in_size, pixel = kernel_size // 2, size * stride, num_channels + int(generator.integers(3))
    x = generator.integers(-255, 256, (num_channels, in_size, in_size)).astype(np.float64)
    w = generator.integers(-127, 128, (out_channels, num_channels, kernel_size, kernel_size)).astype(np.float32)
    if not whole:  # products of 8 and 16 bits more: exact in float64, not in float32
        x, w = x + generator.integers(0, 256, x.shape) / 256, w + np.float32(2**-16)
    scale = random_reals(generator, out_channels) / np.float32(2000)
    own = arrays_of(scale=scale, shift=random_reals(generator, out_channels))
    if whole:
        filters, runs, pairs = builder.whole_filters(w, joined=pixel == num_channels)
    else:
        filters, runs, pairs = builder.real_filters(w), 0, 0
    at_scale, at_shift = builder.channels(own.scale), builder.channels(own.shift)
    memory = Memory(builder)
    padded = np.full((in_size + 2 * border, in_size + 2 * border, pixel), -1000.0)  # what lies between pixels
    padded[:, :, :num_channels] = np.pad(x, ((0, 0), (border, border), (border, border))).transpose(1, 2, 0)
    out_pixel = whole_vectors(out_channels) + 1
    results = np.full(size * size * out_pixel + LANES, -1, RESULTS[finish])
    source = padded.astype(np.int16 if whole else np.float64)
    source = np.append(source, np.full(2, -1000, source.dtype))  # the last pair may reach behind the image
    for y in range(size):
        row = y * stride * padded[0].size
        blocks = num_blocks(out_channels)
        ends = (at_scale, at_shift, results.ctypes.data, y * size * out_pixel, out_pixel, size, blocks)
        if whole:
            stem_kernels.stem_row_whole(
                source.ctypes.data,
                memory.constants.ctypes.data,
                memory.reals.ctypes.data,
                row,
                padded[0].size,
                pixel,
                runs,
                pairs,
                kernel_size,
                stride,
                filters,
                *ends,
                finish,
                largest,
            )
        else:
            stem_kernels.stem_row(
                source.ctypes.data,
                memory.filters.ctypes.data,
                memory.reals.ctypes.data,
                row,
                padded[0].size,
                pixel,
                num_channels,
                kernel_size,
                stride,
                filters,
                *ends,
                finish,
            )
    expected = affine(plain_convolution(x, w, stride=stride), own)
    if finish == p.RECTIFY:
        expected = np.maximum(expected, 0)
    elif finish == p.STEPS:
        expected = np.minimum(np.rint(np.maximum(expected, 0) * np.float32(32)), largest)
    found = results[: size * size * out_pixel].reshape(size, size, out_pixel).transpose(2, 0, 1)
    np.testing.assert_array_equal(found[:out_channels], expected)
    assert (found[whole_vectors(out_channels) :] == -1).all()
