"""The 1-bit product against what the processor can count at most.

A 3x3 convolution of 256 -> 256 channels, on one thread: the engine's product over the gathered taps of a row, scaling
included; a loop of xor, popcount and add on registers alone (the ceiling); the same convolution in float32 by
PyTorch. `python -m benchmarks.product`
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from numba import njit

from benchmarks.tables import Rows
from cpnas_cli.deploy.engine import bit_kernels, lanes
from cpnas_cli.deploy.engine import product_columns as columns
from cpnas_cli.efficiency.timing import time_interleaved

TITLE = "1-bit product against the popcount ceiling"
TAPS, LOOPS = 9, 200
CEILING_MACS = 10 * 16 * 32  # of one round of the registers


@njit
def count_on_registers(loops, constants):
    """Ten independent chains of xor, popcount and add, 16 words each; one more addition makes the next words."""
    a = lanes.load_u(constants, 0)
    b = lanes.load_u(constants, 16)
    c = lanes.load_u(constants, 32)
    d = lanes.load_u(constants, 48)
    e = lanes.load_u(constants, 64)
    f = lanes.load_u(constants, 80)
    g = lanes.load_u(constants, 96)
    h = lanes.load_u(constants, 112)
    i = lanes.load_u(constants, 128)
    j = lanes.load_u(constants, 144)
    x = lanes.splat_u(np.uint32(0))
    one = lanes.splat_u(np.uint32(1))
    n0 = n1 = n2 = n3 = n4 = n5 = n6 = n7 = n8 = n9 = x
    for _ in range(loops):
        n0 = lanes.add_u(n0, lanes.popcount(lanes.xor(a, x)))
        n1 = lanes.add_u(n1, lanes.popcount(lanes.xor(b, x)))
        n2 = lanes.add_u(n2, lanes.popcount(lanes.xor(c, x)))
        n3 = lanes.add_u(n3, lanes.popcount(lanes.xor(d, x)))
        n4 = lanes.add_u(n4, lanes.popcount(lanes.xor(e, x)))
        n5 = lanes.add_u(n5, lanes.popcount(lanes.xor(f, x)))
        n6 = lanes.add_u(n6, lanes.popcount(lanes.xor(g, x)))
        n7 = lanes.add_u(n7, lanes.popcount(lanes.xor(h, x)))
        n8 = lanes.add_u(n8, lanes.popcount(lanes.xor(i, x)))
        n9 = lanes.add_u(n9, lanes.popcount(lanes.xor(j, x)))
        x = lanes.add_u(x, one)
    total = n0
    for count in (n1, n2, n3, n4, n5, n6, n7, n8, n9):
        total = lanes.add_u(total, count)
    lanes.store_u(constants, 0, total)


@njit
def convolve(loops, words, gathered, constants, reals, products, values, size, channels):
    """Row by row: the words of the nine taps side by side, then the product. The image has a border of one."""
    num_words, padded = channels // 32, size + 2
    for _ in range(loops):
        for y in range(size):
            for tap in range(TAPS):
                for word in range(num_words):
                    first = word * padded * padded + (y + tap // 3) * padded + tap % 3
                    for x in range(0, size, lanes.LANES):
                        taken = lanes.load_u(words, first + x)
                        lanes.store_u(gathered, (tap * num_words + word) * size + x, taken)
            out = y * size * channels
            bit_kernels.add_products(
                gathered, constants, reals, products, 1, 0, values, out, channels, size, channels // lanes.LANES, False
            )


def measure(channels: int, size: int, repetitions: int) -> dict[str, float]:
    """Multiply-accumulates per ns by name."""
    generator = np.random.default_rng(0)
    num_words = TAPS * channels // 32

    def bits(count: int) -> np.ndarray:
        return generator.integers(0, 2**32, count + 64, dtype=np.uint32)

    words, gathered = bits((size + 2) ** 2 * channels // 32), bits(num_words * size)
    constants, reals = bits(num_words * channels), np.ones(2 * channels + 64, np.float32)
    values = np.zeros(size * size * channels + 64, np.float32)
    row = np.zeros((1, columns.PRODUCT_COLUMNS), np.int64)
    row[0, [columns.STEP, columns.PLANE, columns.NUM_WORDS, columns.NUM_INPUTS, columns.SHIFT]] = (
        1, size, num_words, TAPS * channels, channels,
    )  # fmt: skip
    bits_at, gathered_at, constants_at, reals_at, row_at, values_at = (
        array.ctypes.data for array in (words, gathered, constants, reals, row, values)
    )
    image, filters = torch.randn(1, channels, size, size), torch.randn(channels, channels, 3, 3)
    image, filters = (tensor.to(memory_format=torch.channels_last) for tensor in (image, filters))
    macs = TAPS * channels**2 * size**2
    calls: dict[str, Callable[[], object]] = {
        "popcount ceiling": lambda: count_on_registers(LOOPS * macs // CEILING_MACS, constants_at),
        "1-bit product": lambda: convolve(
            LOOPS, bits_at, gathered_at, constants_at, reals_at, row_at, values_at, size, channels
        ),
        "float32 convolution": lambda: [torch.conv2d(image, filters, padding=1) for _ in range(LOOPS // 10)],
    }
    torch.set_num_threads(1)
    with torch.inference_mode():
        times = time_interleaved(calls, repetitions=repetitions)
    loops = {"float32 convolution": LOOPS // 10}
    return {name: macs * loops.get(name, LOOPS) / timing.median / 1e9 for name, timing in times.items()}


def tabulate(*, channels: int = 256, size: int = 16, repetitions: int) -> Rows:
    rates = measure(channels, size, repetitions)
    return [
        {
            "on one thread": name,
            "channels, pixels": f"{channels}, {size}",
            "multiply-accumulates per ns": rate,
            "% of the ceiling": 100 * rate / rates["popcount ceiling"],
        }
        for name, rate in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--size", type=int, default=16, help="rows and columns, a multiple of 16")
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    rates = measure(arguments.channels, arguments.size, arguments.repetitions)
    for name, rate in rates.items():
        print(f"{name:20} {rate:8.1f} multiply-accumulates per ns, {100 * rate / rates['popcount ceiling']:5.1f} %")


if __name__ == "__main__":
    main()
