"""The convolutions of the stem, one row of an image at a time: in float64, or in whole numbers.

Their images lie channels last, with a border of zeros: float64, or int16, which are counted as such in offsets.
"""

# numba types and compiles these functions by itself; to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import numpy as np
from numba import njit

from cpnas_cli.deploy.engine.lanes import (
    LANES,
    add_f,
    larger_f,
    load_d,
    load_f,
    load_u,
    multiply_add_d,
    multiply_f,
    multiply_pairs,
    narrow,
    smaller_f,
    splat_d,
    splat_d_at,
    splat_f,
    splat_pair_at,
    splat_u,
    store_d,
    store_f,
    store_h,
    to_f,
    to_u,
    widen,
)
from cpnas_cli.deploy.engine.program import STORE
from cpnas_cli.networks.stem_arithmetic import VALUE_STEPS


@njit
def stem_row(doubles, filters_of, reals, source, row, source_pixel, num_channels, kernel_size, stride, weights,
             scale, shift, results_of, results, pixel, num_pixels, num_blocks, finish):  # fmt: skip
    """A real convolution of a row of a padded image, summed in float64, scaled and shifted, and finished.

    Args:
      source: offset in `doubles` of the first value under the row's first tap; `row`, `source_pixel`: values to the
        next row and pixel.
      weights: offset of (blocks, k * k * num_channels, 16), rows of the filter first.
      finish: STORE: float32 values; RECTIFY: max(x, 0) as float64.
    """
    four = num_pixels - num_pixels % 4
    step, taps = stride * source_pixel, kernel_size * kernel_size * num_channels
    for block in range(num_blocks):
        s, t = load_f(reals, scale + block * LANES), load_f(reals, shift + block * LANES)
        for x in range(0, four, 4):
            t0 = splat_d(0.0)
            t1, t2, t3 = t0, t0, t0
            w_at = weights + block * taps * LANES
            for line in range(kernel_size):
                for column in range(kernel_size):
                    at = source + line * row + column * source_pixel + x * step
                    for c in range(at, at + num_channels):
                        w = load_d(filters_of, w_at)
                        t0 = multiply_add_d(splat_d_at(doubles, c), w, t0)
                        t1 = multiply_add_d(splat_d_at(doubles, c + step), w, t1)
                        t2 = multiply_add_d(splat_d_at(doubles, c + 2 * step), w, t2)
                        t3 = multiply_add_d(splat_d_at(doubles, c + 3 * step), w, t3)
                        w_at += LANES
            place = results + x * pixel + block * LANES
            _finish(results_of, place, narrow(t0), s, t, finish)
            _finish(results_of, place + pixel, narrow(t1), s, t, finish)
            _finish(results_of, place + 2 * pixel, narrow(t2), s, t, finish)
            _finish(results_of, place + 3 * pixel, narrow(t3), s, t, finish)
        for x in range(four, num_pixels):
            total = splat_d(0.0)
            w_at = weights + block * taps * LANES
            for line in range(kernel_size):
                for column in range(kernel_size):
                    at = source + line * row + column * source_pixel + x * step
                    for c in range(at, at + num_channels):
                        total = multiply_add_d(splat_d_at(doubles, c), load_d(filters_of, w_at), total)
                        w_at += LANES
            _finish(results_of, results + x * pixel + block * LANES, narrow(total), s, t, finish)


@njit(inline="always")
def _finish(results_of, place, total, scale, shift, finish):
    value = add_f(multiply_f(total, scale), shift)
    if finish == STORE:
        store_f(results_of, place, value)
    else:
        store_d(results_of, place, widen(larger_f(value, splat_f(np.float32(0)))))


@njit
def stem_row_whole(halves, constants, reals, source, row, source_pixel, num_runs, num_pairs, kernel_size, stride,
                   weights, scale, shift, results_of, results, pixel, num_pixels, num_blocks, finish,
                   largest):  # fmt: skip
    """The same of int8 filters on a padded image of int16: two products at once, all sums are whole numbers.

    Args:
      num_runs, num_pairs: how many values that lie side by side a row of the filter reads, as runs of so many pairs;
        of one run in a row, or of one from a pixel to the next. Behind an odd number of values the filter has a 0.
      weights: offset in `constants` of (blocks, k, runs, pairs, 16), two int16 each.
      finish: STORE: float32 values; STEPS: max(x, 0) in whole steps up to `largest`, as int16.
    """
    four = num_pixels - num_pixels % 4
    step, num_steps = stride * source_pixel, kernel_size * num_runs * num_pairs
    for block in range(num_blocks):
        s, t = load_f(reals, scale + block * LANES), load_f(reals, shift + block * LANES)
        for x in range(0, four, 4):
            t0 = splat_u(np.uint32(0))
            t1, t2, t3 = t0, t0, t0
            w_at = weights + block * num_steps * LANES
            for line in range(kernel_size):
                for run in range(num_runs):
                    at = source + line * row + run * source_pixel + x * step
                    for _ in range(num_pairs):
                        w = load_u(constants, w_at)
                        t0 = multiply_pairs(splat_pair_at(halves, at), w, t0)
                        t1 = multiply_pairs(splat_pair_at(halves, at + step), w, t1)
                        t2 = multiply_pairs(splat_pair_at(halves, at + 2 * step), w, t2)
                        t3 = multiply_pairs(splat_pair_at(halves, at + 3 * step), w, t3)
                        w_at += LANES
                        at += 2
            place = results + x * pixel + block * LANES
            _finish_whole(results_of, place, t0, s, t, finish, largest)
            _finish_whole(results_of, place + pixel, t1, s, t, finish, largest)
            _finish_whole(results_of, place + 2 * pixel, t2, s, t, finish, largest)
            _finish_whole(results_of, place + 3 * pixel, t3, s, t, finish, largest)
        for x in range(four, num_pixels):
            total = splat_u(np.uint32(0))
            w_at = weights + block * num_steps * LANES
            for line in range(kernel_size):
                for run in range(num_runs):
                    at = source + line * row + run * source_pixel + x * step
                    for _ in range(num_pairs):
                        total = multiply_pairs(splat_pair_at(halves, at), load_u(constants, w_at), total)
                        w_at += LANES
                        at += 2
            _finish_whole(results_of, results + x * pixel + block * LANES, total, s, t, finish, largest)


@njit(inline="always")
def _finish_whole(results_of, place, total, scale, shift, finish, largest):
    value = add_f(multiply_f(to_f(total), scale), shift)
    if finish == STORE:
        store_f(results_of, place, value)
    else:
        steps = multiply_f(larger_f(value, splat_f(np.float32(0))), splat_f(np.float32(VALUE_STEPS)))
        # adding 2^23 leaves no bits behind the point: rounded to nearest, halves to even
        steps = add_f(smaller_f(steps, splat_f(np.float32(largest))), splat_f(np.float32(2**23)))
        store_h(results_of, place, to_u(add_f(steps, splat_f(np.float32(-(2**23))))))
