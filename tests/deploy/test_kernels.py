"""The kernels of the packed engine, each alone against numpy or torch: same numbers, and nothing else is written."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from cpnas_cli.deploy.engine import bit_kernels, lanes, real_kernels, stem_kernels
from cpnas_cli.deploy.engine import program as p
from cpnas_cli.deploy.engine.builder import ProgramBuilder
from cpnas_cli.deploy.engine.layout import num_blocks, whole_vectors
from cpnas_cli.deploy.engine.program import Values, Words
from cpnas_cli.deploy.packed_file import LayerArrays
from cpnas_cli.networks.layer import Layer

SOME = settings(max_examples=40, deadline=None, derandomize=True)
MANY = settings(max_examples=150, deadline=None, derandomize=True)
SEEDS = st.integers(0, 2**32 - 1)
LANES = lanes.LANES


# ---------------------------------------------------------------- vectors of 16 lanes

ADD_F, MULTIPLY_F, DIVIDE_F, LARGER_F, TO_F, FUSED_D, SPLAT_F, SPLAT_F_AT, FUSED_F = range(9)
(
    XOR,
    UNION,
    CONJUNCTION,
    PARITY,
    MAJORITY,
    POPCOUNT,
    ADD_U,
    SUBTRACT_U,
    SHIFT_LEFT,
    SHIFT_RIGHT,
    EVEN_LANES,
    SPLAT_U,
    SPLAT_U_AT,
    ROTATE_LEFT,
) = range(14)


@njit
def every_operation(u, f, out_u, out_f):
    """Row k of the outputs is operation k of the first three vectors; all arguments are addresses."""
    x, y, z = lanes.load_u(u, 0), lanes.load_u(u, 16), lanes.load_u(u, 32)
    lanes.store_u(out_u, 16 * XOR, lanes.xor(x, y))
    lanes.store_u(out_u, 16 * UNION, lanes.union(x, y))
    lanes.store_u(out_u, 16 * CONJUNCTION, lanes.conjunction(x, y))
    lanes.store_u(out_u, 16 * PARITY, lanes.parity(x, y, z))
    lanes.store_u(out_u, 16 * MAJORITY, lanes.majority(x, y, z))
    lanes.store_u(out_u, 16 * POPCOUNT, lanes.popcount(x))
    lanes.store_u(out_u, 16 * ADD_U, lanes.add_u(x, y))
    lanes.store_u(out_u, 16 * SUBTRACT_U, lanes.subtract_u(x, y))
    amounts = lanes.load_u(u, 48)
    lanes.store_u(out_u, 16 * SHIFT_LEFT, lanes.shift_left(x, amounts))
    lanes.store_u(out_u, 16 * SHIFT_RIGHT, lanes.shift_right(x, amounts))
    lanes.store_u(out_u, 16 * ROTATE_LEFT, lanes.rotate_left(x, amounts))
    lanes.store_u(out_u, 16 * EVEN_LANES, lanes.even_lanes(x, y))
    lanes.store_u(out_u, 16 * SPLAT_U, lanes.splat_u(lanes.get_u(u, 5)))
    lanes.store_u(out_u, 16 * SPLAT_U_AT, lanes.splat_u_at(u, 7))
    a, b, c = lanes.load_f(f, 0), lanes.load_f(f, 16), lanes.load_f(f, 32)
    lanes.store_f(out_f, 16 * ADD_F, lanes.add_f(a, b))
    lanes.store_f(out_f, 16 * MULTIPLY_F, lanes.multiply_f(a, b))
    lanes.store_f(out_f, 16 * DIVIDE_F, lanes.divide_f(a, b))
    lanes.store_f(out_f, 16 * LARGER_F, lanes.larger_f(a, b))
    lanes.store_f(out_f, 16 * TO_F, lanes.to_f(x))
    fused = lanes.multiply_add_d(lanes.widen(a), lanes.widen(b), lanes.widen(c))
    lanes.store_f(out_f, 16 * FUSED_D, lanes.narrow(fused))
    many = lanes.splat_u(np.uint32(21))
    whole = (
        lanes.to_f(lanes.shift_right(x, many)),
        lanes.to_f(lanes.shift_right(y, many)),
        lanes.to_f(lanes.shift_right(z, many)),
    )
    lanes.store_f(out_f, 16 * FUSED_F, lanes.multiply_add_f(*whole))
    lanes.store_f(out_f, 16 * SPLAT_F, lanes.splat_f(lanes.get_f(f, 5)))
    lanes.store_f(out_f, 16 * SPLAT_F_AT, lanes.splat_f_at(f, 7))


def count_bits(x: np.ndarray) -> np.ndarray:
    return np.array([bin(value).count("1") for value in x.tolist()], np.uint32)


def larger(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(y > x, y, x)


@MANY
@given(seed=SEEDS, density=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_operations_on_whole_numbers(seed: int, density: float) -> None:
    generator = np.random.default_rng(seed)
    bits = generator.random((3, LANES, 32)) < density
    u = np.zeros((4, LANES), np.uint32)
    u[:3] = np.packbits(bits, axis=2).view(np.uint32)[..., 0]
    u[3] = generator.permutation(32)[:LANES]
    f, out_u, out_f = np.ones((3, LANES), np.float32), np.zeros((14, LANES), np.uint32), np.zeros((9, LANES))
    every_operation(u.ctypes.data, f.ctypes.data, out_u.ctypes.data, out_f.ctypes.data)
    x, y, z, amounts = u
    expected = {
        XOR: x ^ y,
        UNION: x | y,
        CONJUNCTION: x & y,
        PARITY: x ^ y ^ z,
        MAJORITY: (x & y) | (x & z) | (y & z),
        POPCOUNT: count_bits(x),
        ADD_U: x + y,
        SUBTRACT_U: x - y,
        SHIFT_LEFT: x << amounts,
        SHIFT_RIGHT: x >> amounts,
        ROTATE_LEFT: x << amounts | x >> (32 - amounts) % 32,
        EVEN_LANES: np.concatenate([x, y])[::2],
        SPLAT_U: np.full(LANES, x[5]),
        SPLAT_U_AT: np.full(LANES, x[7]),
    }
    for row in range(14):
        np.testing.assert_array_equal(out_u[row], expected[row], err_msg=str(row))


@MANY
@given(seed=SEEDS)
def test_operations_on_real_numbers(seed: int) -> None:
    """To the bit: every product and sum is rounded by itself, the fused ones are exact before they are rounded."""
    generator = np.random.default_rng(seed)
    u = generator.integers(0, 2**32, (4, LANES), dtype=np.uint32)
    u[3] = 0
    f = (generator.normal(size=(3, LANES)) * 10.0 ** generator.integers(-6, 6, (3, LANES))).astype(np.float32)
    f[0, :3], f[1, 2:4] = [0.0, -0.0, f[1, 2]], [f[0, 2], -0.5]
    out_u, out_f = np.zeros((14, LANES), np.uint32), np.zeros((9, LANES), np.float32)
    every_operation(u.ctypes.data, f.ctypes.data, out_u.ctypes.data, out_f.ctypes.data)
    a, b, c = f
    expected = {
        ADD_F: a + b,
        MULTIPLY_F: a * b,
        DIVIDE_F: a / b,
        LARGER_F: larger(a, b),
        TO_F: u[0].view(np.int32).astype(np.float32),
        FUSED_F: ((u[0] >> 21) * (u[1] >> 21) + (u[2] >> 21)).astype(np.float32),
        FUSED_D: (a.astype(np.float64) * b + c).astype(np.float32),
        SPLAT_F: np.full(LANES, a[5]),
        SPLAT_F_AT: np.full(LANES, a[7]),
    }
    for row in range(9):
        np.testing.assert_array_equal(out_f[row].view(np.uint32), expected[row].view(np.uint32), err_msg=str(row))


@njit
def sign_bits(f, offset):
    return lanes.signs(lanes.load_f(f, offset))  # type: ignore[call-arg]  # numba gives the first argument


def test_a_sign_is_set_from_zero_on() -> None:
    """Also at -0.0, not at NaN; 16 values from any place on."""
    values = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1, -1, 2, -2, -3, 3, -4, 4, 5, -5])
    expected = [True, True, False, False, True, False, True, False] + [True, False] * 2 + [False, True] * 2
    expected += [True, False]
    f = values.astype(np.float32)
    for offset in range(3):
        bits = int(sign_bits(f.ctypes.data, offset))
        assert [bool(bits >> lane & 1) for lane in range(LANES)] == expected[offset : offset + LANES]
        assert bits < 1 << LANES


@njit
def moved(u8, i64, f64, offset, out_u, out_f, out_d):
    lanes.put_u(out_u, offset, np.uint32(lanes.get_b(u8, offset)))
    lanes.put_f(out_f, offset, np.float32(lanes.get_d(f64, offset)))
    lanes.put_d(out_d, offset, np.float64(lanes.get_i(i64, offset)))
    spread = lanes.narrow(lanes.multiply_add_d(lanes.load_d(f64, 0), lanes.splat_d_at(f64, 1), lanes.splat_d(0.5)))
    lanes.store_f(out_f, 20, spread)


def test_single_elements() -> None:
    u8, i64 = np.arange(200, 220, dtype=np.uint8), np.arange(20) * -(2**40)
    f64 = np.arange(20) / 4
    out_u, out_f, out_d = np.zeros(20, np.uint32), np.zeros(36, np.float32), np.zeros(20)
    moved(u8.ctypes.data, i64.ctypes.data, f64.ctypes.data, 3, out_u.ctypes.data, out_f.ctypes.data, out_d.ctypes.data)
    assert (out_u[3], out_f[3], out_d[3]) == (203, 0.75, -3 * 2**40)
    assert (np.count_nonzero(out_u), np.count_nonzero(out_f[:20]), np.count_nonzero(out_d)) == (1, 1, 1)
    np.testing.assert_array_equal(out_f[20:], f64[:16] * 0.25 + 0.5)


# ---------------------------------------------------------------- memory as the kernels see it


@dataclass
class Memory:
    """The arrays of a builder; values hold NaN and words ones wherever nothing was put."""

    builder: ProgramBuilder

    def __post_init__(self) -> None:
        self.values = np.full(self.builder.value_memory.size, np.nan, np.float32)
        num_words = self.builder.word_memory.size + self.builder.slot_memory.size
        self.words = np.full(num_words, 0xFFFFFFFF, np.uint32)
        self.constants, self.reals = self.builder.constants.array(), self.builder.reals.array()
        self.filters = self.builder.doubles.array()
        self.table = np.array(self.builder.table, np.int64)
        self.products = np.array(self.builder.products, np.int64)

    def put_signs(self, where: Words, signs: np.ndarray, *, border: int = 0) -> None:
        """signs: bool (C, H, W), with a border of zeros; bits that are no channels are 0."""
        channels, size, _ = signs.shape
        padded = np.zeros((where.num_words * 32, size + 2 * border, size + 2 * border), bool)
        padded[:channels, border : size + border, border : size + border] = signs
        for (y, x), words in np.ndenumerate(np.empty(padded.shape[1:])):
            del words
            first = where.offset + (y - border) * where.row + x - border
            for word in range(where.num_words):
                self.words[first + word * where.plane] = as_word(padded[32 * word : 32 * word + 32, y, x])

    def signs(self, where: Words, size: int) -> np.ndarray:
        """bool (32 * words, H, W), the bits that are no channels too."""
        place = where.offset + np.arange(size)[:, None] * where.row + np.arange(size)  # (H, W)
        words = self.words[place + where.plane * np.arange(where.num_words)[:, None, None]]  # (words, H, W)
        bits = words[:, None] >> np.arange(32, dtype=np.uint32)[:, None, None] & 1
        return bits.reshape(-1, size, size).astype(bool)

    def put_values(self, where: Values, x_CHW: np.ndarray) -> None:
        self.values[places(where, x_CHW.shape[0])] = x_CHW

    def image(self, where: Values, channels: int) -> np.ndarray:
        return self.values[places(where, channels)]


def as_word(bits: np.ndarray) -> int:
    return sum(1 << index for index, bit in enumerate(bits.tolist()) if bit)


def places(where: Values, channels: int) -> np.ndarray:
    """Where the values are: (C, H, W)."""
    y, x = np.arange(where.size)[:, None], np.arange(where.size)
    return where.offset + (y * where.size + x) * where.pixel + np.arange(channels)[:, None, None]


def check_only_written(before: np.ndarray, after: np.ndarray, written: np.ndarray) -> None:
    """Everywhere else the memory is as it was, to the bit."""
    untouched = np.ones(len(before), bool)
    untouched[written.ravel()] = False
    np.testing.assert_array_equal(before.view(np.uint32)[untouched], after.view(np.uint32)[untouched])


def random_signs(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.random(shape) < generator.choice([0.1, 0.5, 0.9])


def random_reals(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return generator.normal(size=shape).astype(np.float32)


def arrays_of(**arrays: np.ndarray) -> LayerArrays:
    none = np.zeros(0, np.float32)
    return dataclasses.replace(LayerArrays(none, none, none, none, none, none), **arrays)


def convolution(in_channels: int, out_channels: int, size: int, **shape: Any) -> Layer:
    stride = shape.get("stride", 1)
    return Layer("layer", "convolution", in_channels, out_channels, size, size // stride, binary=True, **shape)


def affine(x_CHW: np.ndarray, own: LayerArrays) -> np.ndarray:
    """x * scale + shift with two roundings to float32."""
    return x_CHW.astype(np.float32) * own.scale[:, None, None] + own.shift[:, None, None]


# ---------------------------------------------------------------- 1x1 convolutions


@SOME
@given(
    inputs=st.lists(
        st.tuples(st.integers(1, 200), st.sampled_from([(1, 0), (2, 0), (2, 1)]), st.integers(0, 3)),
        min_size=1,
        max_size=4,
    ),
    out_channels=st.integers(1, 40),
    size=st.integers(1, 40),
    keep=st.booleans(),
    seed=SEEDS,
)
def test_products_are_convolutions_added_up(
    inputs: list[tuple[int, tuple[int, int], int]], out_channels: int, size: int, keep: bool, seed: int
) -> None:
    """Several products of two rows: sums of signs * scale + shift, one after the other, to the bit."""
    generator = np.random.default_rng(seed)
    rows = sorted({0, size - 1})
    builder, images = ProgramBuilder(), list[tuple[Words, np.ndarray, int]]()
    out = builder.values("out", pixel=whole_vectors(out_channels) + LANES, size=size)
    expected = random_reals(generator, out_channels, size, size)
    before = expected.copy()
    total = expected if keep else np.zeros_like(expected)
    for index, (channels, (stride, first), border) in enumerate(inputs):
        layer = convolution(channels, out_channels, size * stride, stride=stride)
        source = builder.words(index, channels=channels, size=size * stride, border=border)
        x, w = (
            random_signs(generator, channels, layer.in_size, layer.in_size),
            random_signs(generator, out_channels, channels),
        )
        own = arrays_of(
            signs=w[:, :, None, None],
            scale=random_reals(generator, out_channels),
            shift=random_reals(generator, out_channels),
        )
        builder.product(layer, own, source, first=first)
        images.append((source, x, border))
        thinned = np.where(x, 1, -1)[:, first::stride, first::stride]
        sums = np.einsum("oc,cyx->oyx", np.where(w, 1, -1), thinned[:, rows])
        total[:, rows] = total[:, rows] + affine(sums, own)
    memory = Memory(builder)
    for source, x, border in images:
        memory.put_signs(source, x[:, :, :], border=border)
    memory.put_values(out, before)
    untouched = memory.values.copy()
    for y in rows:
        bit_kernels.add_products(
            memory.words.ctypes.data,
            memory.constants.ctypes.data,
            memory.reals.ctypes.data,
            memory.products.ctypes.data,
            len(inputs),
            y,
            memory.values.ctypes.data,
            out.offset + y * out.row,
            out.pixel,
            size,
            num_blocks(out_channels),
            keep,
        )
    np.testing.assert_array_equal(memory.image(out, out_channels)[:, rows], total[:, rows])
    check_only_written(untouched, memory.values, places(out, whole_vectors(out_channels))[:, rows])


def exact_reals(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """float32 with 20 bits, so that sums of products are exact in float64, but not in float32."""
    return (generator.integers(-(2**19), 2**19, shape) / 2**17).astype(np.float32)


@pytest.mark.parametrize("rectifies", [True, False])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("in_channels", "out_channels", "size"), [(1, 1, 1), (5, 18, 3), (40, 33, 4)])
def test_a_real_product_is_a_convolution_of_the_positive_part_or_of_all(
    in_channels: int, out_channels: int, size: int, first: int, keep: bool, rectifies: bool
) -> None:
    generator, builder = np.random.default_rng(0), ProgramBuilder()
    layer = dataclasses.replace(convolution(in_channels, out_channels, 2 * size, stride=2), binary=False)
    source = builder.values("source", pixel=whole_vectors(in_channels), size=2 * size)
    out = builder.values("out", pixel=whole_vectors(out_channels) + 3, size=size)
    own = arrays_of(
        weights=exact_reals(generator, out_channels, in_channels, 1, 1),
        scale=random_reals(generator, out_channels),
        shift=random_reals(generator, out_channels),
    )
    step = builder.real_product(layer, own, source, first=first, out_channel=0, keep=keep, rectifies=rectifies)
    assert step[p.RECTIFIES] == rectifies
    memory = Memory(builder)
    x, before = (
        exact_reals(generator, in_channels, 2 * size, 2 * size),
        random_reals(generator, out_channels, size, size),
    )
    memory.put_values(source, x)
    memory.put_values(out, before)
    untouched = memory.values.copy()
    for y in range(size):
        real_kernels.add_real_product(
            memory.filters.ctypes.data,
            memory.reals.ctypes.data,
            step[p.SOURCE] + y * step[p.SOURCE_ROW],
            step[p.SOURCE_PIXEL],
            in_channels,
            step[p.WEIGHTS],
            step[p.SCALE],
            step[p.SHIFT],
            memory.values.ctypes.data,
            out.offset + y * out.row,
            out.pixel,
            size,
            num_blocks(out_channels),
            keep,
            rectifies,
        )
    weights, read = torch.tensor(own.weights).double(), torch.tensor(x)
    read = (read.relu() if rectifies else read).double()
    sums = F.conv2d(read[None, :, first:, first:], weights, stride=2)[0].numpy()
    expected = affine(sums, own)
    np.testing.assert_array_equal(memory.image(out, out_channels), before + expected if keep else expected)
    check_only_written(untouched, memory.values, places(out, whole_vectors(out_channels)))


# ---------------------------------------------------------------- depthwise convolutions

DEPTHWISE: dict[int, Callable[..., None]] = {
    p.DEPTHWISE_3X3: bit_kernels.depthwise_3x3,
    p.DEPTHWISE_5X5: bit_kernels.depthwise_5x5,
    p.DEPTHWISE: bit_kernels.depthwise_any,
}
KERNEL_SIZES = [3, 5, 7, 11]  # the last two by the kernel for any size


def depthwise(layer: Layer, own: LayerArrays, x: np.ndarray, *, border: int) -> np.ndarray:
    """What the kernel gives, row after row: bool (32 * words, H, W)."""
    builder = ProgramBuilder()
    source = builder.words("source", channels=layer.in_channels, size=layer.in_size, border=border)
    slot = builder.slot(0, layer)
    step = builder.depthwise(layer, own, source, slot)
    slot = slot._replace(offset=builder.word_memory.size + slot.offset)  # slots lie behind all other words
    memory = Memory(builder)
    memory.put_signs(source, x, border=border)
    rows = list[np.ndarray]()
    for y in range(layer.out_size):
        untouched = memory.words.copy()
        DEPTHWISE[step[p.KIND]](
            memory.words.ctypes.data,
            memory.constants.ctypes.data,
            step[p.SOURCE] + y * layer.stride * source.row,
            source.row,
            source.plane,
            layer.dilation,
            layer.stride,
            step[p.WEIGHTS],
            memory.table[step[p.THRESHOLDS] + y],
            slot.plane,
            source.num_words,
            slot.offset,
            *([layer.kernel_size] if step[p.KIND] == p.DEPTHWISE else []),
        )
        check_only_written(untouched, memory.words, slot.offset + np.arange(slot.num_words * slot.plane))
        rows.append(memory.signs(slot._replace(row=0), layer.out_size)[:, 0])
    return np.stack(rows, axis=1)


def check_depthwise(
    *, kernel_size: int, dilation: int, stride: int, size: int, channels: int, seed: int, more_border: int = 0
) -> None:
    generator = np.random.default_rng(seed)
    largest, padding = kernel_size**2, dilation * (kernel_size - 1) // 2
    shape = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation, "groups": channels}
    layer = convolution(channels, channels, size, ending="threshold", **shape)
    x, w = random_signs(generator, channels, size, size), random_signs(generator, channels, 1, kernel_size, kernel_size)
    # most of them near 0, where the sums are; some at the ends, which mean always and never
    thresholds = generator.integers(-4, 6, channels)
    ends = generator.random(channels) < 0.2
    thresholds[ends] = generator.choice([-largest, 1 - largest, largest, largest + 1], ends.sum())
    found = depthwise(layer, arrays_of(signs=w, thresholds=thresholds.astype(np.int8)), x, border=padding + more_border)
    signs, filters = (torch.tensor(np.where(bits, 1.0, -1.0)) for bits in (x, w))
    sums = F.conv2d(signs[None], filters, None, stride, padding, dilation, groups=channels)[0].numpy()
    np.testing.assert_array_equal(found[:channels], sums >= thresholds[:, None, None])
    assert not found[channels:].any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 8, 11, 15, 16, 17, 20])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_a_depthwise_convolution_with_zeros_around_the_image(
    kernel_size: int, dilation: int, stride: int, size: int
) -> None:
    """Down to one row of results, where most of the filter lies beyond the image."""
    size *= stride if size <= 8 or size % 2 else 1
    for channels, more_border in ((1, 0), (33, 2)):
        check_depthwise(
            kernel_size=kernel_size,
            dilation=dilation,
            stride=stride,
            size=size,
            channels=channels,
            seed=size,
            more_border=more_border,
        )


@SOME
@given(
    kernel_size=st.sampled_from(KERNEL_SIZES),
    dilation=st.sampled_from([1, 2]),
    stride=st.sampled_from([1, 2]),
    half=st.integers(1, 10),
    channels=st.integers(1, 70),
    seed=SEEDS,
)
def test_any_depthwise_convolution(
    kernel_size: int, dilation: int, stride: int, half: int, channels: int, seed: int
) -> None:
    check_depthwise(
        kernel_size=kernel_size, dilation=dilation, stride=stride, size=2 * half, channels=channels, seed=seed
    )


@pytest.mark.parametrize("kernel_size", KERNEL_SIZES)
def test_every_count_against_every_threshold(kernel_size: int) -> None:
    """An image of one pixel row per count: the filter agrees with 0, 1, ... all of its taps."""
    largest = kernel_size**2
    thresholds = np.arange(-largest, largest + 2, dtype=np.int8)
    channels = len(thresholds)
    layer = convolution(channels, channels, kernel_size, kernel_size=kernel_size, groups=channels, ending="threshold")
    generator = np.random.default_rng(0)
    middle = kernel_size // 2
    for count in range(largest + 1):
        w = random_signs(generator, channels, 1, kernel_size, kernel_size)
        order = np.argsort(generator.random((channels, largest)), axis=1)
        agrees = (order < count).reshape(w[:, 0].shape)
        x = np.where(agrees, w[:, 0], ~w[:, 0])
        found = depthwise(layer, arrays_of(signs=w, thresholds=thresholds), x, border=middle)
        np.testing.assert_array_equal(found[:channels, middle, middle], 2 * count - largest >= thresholds)


# ---------------------------------------------------------------- signs


@pytest.mark.parametrize("channels", [1, 5, 16, 17, 31, 32, 33, 48, 63, 64, 100])
@pytest.mark.parametrize(("size", "border"), [(1, 0), (5, 2), (16, 0), (17, 4)])
@pytest.mark.parametrize("shifts", [False, True])
def test_values_are_packed_to_signs(channels: int, size: int, border: int, shifts: bool) -> None:
    """-0.0 is +1 and NaN is -1; what lies behind the last channel does not count; the border stays.

    With shifts the sign is that of the sum, rounded to float32; some sums are 0.
    """
    generator, builder = np.random.default_rng(channels), ProgramBuilder()
    source = builder.values("source", pixel=whole_vectors(channels + 20), size=size)
    out = builder.words("out", channels=channels, size=size, border=border)
    masks = builder.masks(channels)
    added = random_reals(generator, channels) if shifts else np.zeros(channels, np.float32)
    shift = builder.channels(np.pad(added, (0, -channels % 32)))
    memory = Memory(builder)
    memory.values[:] = 1  # also where no channel is
    x = random_reals(generator, channels, size, size)
    x[generator.random(x.shape) < 0.1] = -0.0
    x[generator.random(x.shape) < 0.1] = np.nan
    x = np.where(generator.random(x.shape) < 0.1, -added[:, None, None], x)
    memory.put_values(source, x)
    untouched = memory.words.copy()
    for y in range(size):
        bit_kernels.pack_row(
            memory.values.ctypes.data,
            source.offset + y * source.row,
            source.pixel,
            size,
            masks,
            memory.constants.ctypes.data,
            memory.words.ctypes.data,
            out.offset + y * out.row,
            out.plane,
            out.num_words,
            memory.reals.ctypes.data,
            shift,
        )
    found = memory.signs(out, size)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found[:channels], x + added[:, None, None] >= 0)
    assert not found[channels:].any()
    place = out.offset + np.arange(size)[:, None] * out.row + np.arange(size)
    check_only_written(untouched, memory.words, place + out.plane * np.arange(out.num_words)[:, None, None])


@pytest.mark.parametrize("channels", [1, 2, 4, 7, 8, 10, 16, 22, 24, 31, 32, 33, 36, 40, 64, 70])
@pytest.mark.parametrize("size", [1, 4, 17])
def test_the_signs_of_four_nodes_side_by_side(channels: int, size: int) -> None:
    generator, builder = np.random.default_rng(channels), ProgramBuilder()
    nodes = [builder.words(node, channels=channels, size=size, border=node) for node in range(4)]
    out = builder.words("out", channels=4 * channels, size=size, border=0)
    memory = Memory(builder)
    x = random_signs(generator, 4, channels, size, size)
    for node, where in enumerate(nodes):
        memory.put_signs(where, x[node], border=node)
    table = np.array([-1, *(number for where in nodes for number in (where.offset, where.row, where.plane))])
    untouched = memory.words.copy()
    for y in range(size):
        bit_kernels.concatenate_row(
            memory.words.ctypes.data,
            table.ctypes.data,
            1,
            y,
            channels,
            out.num_words,
            out.offset + y * out.row,
            out.plane,
            out.row,
        )
    found = memory.signs(out, size)
    np.testing.assert_array_equal(found[: 4 * channels], x.reshape(-1, size, size))
    assert not found[4 * channels :].any()
    check_only_written(untouched, memory.words, out.offset + np.arange(out.num_words * out.plane))


# ---------------------------------------------------------------- real values


@dataclass
class Images:
    """A source and a result in one memory, each with values."""

    x: np.ndarray
    before: np.ndarray
    source: Values
    out: Values
    memory: Memory
    own: LayerArrays
    scale: int
    shift: int


def make_images(in_channels: int, channels: int, *, in_size: int, size: int, seed: int) -> Images:
    generator, builder = np.random.default_rng(seed), ProgramBuilder()
    source = builder.values("source", pixel=whole_vectors(in_channels + LANES - 1), size=in_size)
    out = builder.values("out", pixel=whole_vectors(channels) + 5, size=size)
    own = arrays_of(scale=random_reals(generator, channels), shift=random_reals(generator, channels))
    scale, shift = builder.channels(own.scale), builder.channels(own.shift)
    memory = Memory(builder)
    x, before = random_reals(generator, in_channels, in_size, in_size), random_reals(generator, channels, size, size)
    memory.put_values(source, x)
    memory.put_values(out, before)
    return Images(x, before, source, out, memory, own, scale, shift)


def as_torch(x_CHW: np.ndarray) -> torch.Tensor:
    return torch.tensor(x_CHW)[None].contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "out_size"), [(1, 1), (5, 2), (16, 3), (18, 4), (33, 8), (16, 9)])
def test_a_pooling_is_that_of_torch(channels: int, out_size: int, stride: int, kind: str, keep: bool) -> None:
    """To the bit, with scale and shift behind it; padding counts neither in a maximum nor in a mean."""
    size = stride * out_size
    it = make_images(channels, channels, in_size=size, size=out_size, seed=channels)
    untouched = it.memory.values.copy()
    for y in range(out_size):
        kernel = real_kernels.add_max_pool if kind == "max" else real_kernels.add_avg_pool
        kernel(
            it.memory.values.ctypes.data,
            it.memory.reals.ctypes.data,
            it.source.offset,
            it.source.pixel,
            size,
            y,
            stride,
            it.scale,
            it.shift,
            it.out.offset + y * it.out.row,
            it.out.pixel,
            num_blocks(channels),
            keep,
        )
    if kind == "max":
        pooled = F.max_pool2d(as_torch(it.x), 3, stride, 1)
    else:
        pooled = F.avg_pool2d(as_torch(it.x), 3, stride, 1, count_include_pad=False)
    expected = affine(pooled[0].numpy(), it.own)
    np.testing.assert_array_equal(it.memory.image(it.out, channels), it.before + expected if keep else expected)
    check_only_written(untouched, it.memory.values, places(it.out, whole_vectors(channels)))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize(("channels", "num_groups", "size"), [(1, 1, 1), (2, 3, 2), (16, 4, 3), (18, 2, 4), (33, 4, 5)])
def test_a_shortcut_is_that_of_torch(channels: int, num_groups: int, size: int, halves: bool, keep: bool) -> None:
    """Groups of channels, or their means over 2x2 pixels, added one after the other, to what is there or to 0."""
    in_size = 2 * size if halves else size
    it = make_images(channels * num_groups, channels, in_size=in_size, size=size, seed=channels)
    untouched = it.memory.values.copy()
    for y in range(size):
        real_kernels.add_shortcut(
            it.memory.values.ctypes.data,
            it.source.offset + y * (2 if halves else 1) * it.source.row,
            it.source.pixel,
            it.source.row,
            halves,
            num_groups,
            channels,
            it.out.offset + y * it.out.row,
            it.out.pixel,
            size,
            num_blocks(channels),
            keep,
        )
    source, expected = as_torch(it.x), torch.tensor(it.before if keep else np.zeros_like(it.before))[None]
    for group in (F.avg_pool2d(source, 2) if halves else source).split(channels, dim=1):
        expected = expected + group * (1 / num_groups)
    np.testing.assert_array_equal(it.memory.image(it.out, channels), expected[0].numpy())
    check_only_written(untouched, it.memory.values, places(it.out, whole_vectors(channels)))


@pytest.mark.parametrize("channels", [1, 16, 21])
def test_an_identity_and_zeros(channels: int) -> None:
    it = make_images(channels, channels, in_size=3, size=3, seed=0)
    untouched = it.memory.values.copy()
    address = it.memory.values.ctypes.data
    rows = [(it.source.offset + y * it.source.row, it.out.offset + y * it.out.row) for y in range(3)]
    (source_0, out_0), (source_1, out_1), (_, out_2) = rows
    real_kernels.add_row(address, source_0, it.source.pixel, out_0, it.out.pixel, 3, num_blocks(channels), True)
    real_kernels.add_row(address, source_1, it.source.pixel, out_1, it.out.pixel, 3, num_blocks(channels), False)
    real_kernels.fill_row(address, out_2, it.out.pixel, 3, num_blocks(channels))
    expected = np.stack([it.before[:, 0] + it.x[:, 0], it.x[:, 1], np.zeros_like(it.x[:, 2])], axis=1)
    np.testing.assert_array_equal(it.memory.image(it.out, channels), expected)
    check_only_written(untouched, it.memory.values, places(it.out, whole_vectors(channels)))


# ---------------------------------------------------------------- the stem


@pytest.mark.parametrize(
    ("num_channels", "out_channels", "size", "stride"),
    [(1, 1, 1, 1), (3, 16, 4, 1), (1, 18, 5, 2), (3, 33, 7, 2), (3, 20, 2, 4), (2, 48, 6, 4)],
)
def test_the_stem_is_a_convolution_in_float64(num_channels: int, out_channels: int, size: int, stride: int) -> None:
    """Exact sums, one rounding to float32, then scale and shift."""
    generator, builder = np.random.default_rng(size), ProgramBuilder()
    kernel_size = {1: 3, 2: 3, 4: 7}[stride]
    border, in_size = kernel_size // 2, size * stride
    weights = exact_reals(generator, out_channels, num_channels, kernel_size, kernel_size)
    own = arrays_of(scale=random_reals(generator, out_channels), shift=random_reals(generator, out_channels))
    filters = builder.real_filters(weights)
    scale, shift = builder.channels(own.scale), builder.channels(own.shift)
    out = builder.values("out", pixel=whole_vectors(out_channels) + 1, size=size)
    memory = Memory(builder)
    x = exact_reals(generator, num_channels, in_size, in_size).astype(np.float64)
    padded = np.ascontiguousarray(np.pad(x, ((0, 0), (border, border), (border, border))).transpose(1, 2, 0))
    for y in range(size):
        stem_kernels.stem_row(
            padded.ctypes.data,
            memory.filters.ctypes.data,
            memory.reals.ctypes.data,
            y * stride * padded[0].size,
            padded[0].size,
            num_channels,
            num_channels,
            kernel_size,
            stride,
            filters,
            scale,
            shift,
            memory.values.ctypes.data,
            out.offset + y * out.row,
            out.pixel,
            size,
            num_blocks(out_channels),
            p.STORE,
        )
    sums = F.conv2d(torch.tensor(x)[None], torch.tensor(weights).double(), stride=stride, padding=border)[0].numpy()
    np.testing.assert_array_equal(memory.image(out, out_channels), affine(sums, own))
    check_only_written(np.full_like(memory.values, np.nan), memory.values, places(out, whole_vectors(out_channels)))
