"""The real arithmetic of a packed network, one row of an image at a time; layouts as in `bit_kernels`.

Everything that a sign is taken of is computed in the order and with the roundings of the PyTorch Child in
evaluation mode.
"""

# numba types and compiles these functions by itself; to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import numpy as np
from numba import njit

from cpnas_cli.deploy.engine.lanes import (
    LANES,
    add_f,
    divide_f,
    get_f,
    larger_f,
    load_d,
    load_f,
    multiply_add_d,
    multiply_f,
    narrow,
    positive_or,
    put_f,
    smaller_f,
    splat_d,
    splat_d_at,
    splat_f,
    splat_f_at,
    store_d,
    store_f,
    sum_d,
    widen,
)
from cpnas_cli.networks.stem_arithmetic import VALUE_STEPS

# How a row of the stem is finished.
STORE, RECTIFY, STEPS = range(3)


@njit(inline="always")
def _affine(value, reals, scale, shift):
    return add_f(multiply_f(value, load_f(reals, scale)), load_f(reals, shift))


@njit(inline="always")
def _put(values, place, value, keep):
    """values[place] (+)= value."""
    store_f(values, place, add_f(load_f(values, place), value) if keep else value)


@njit
def add_real_product(
    doubles_of,
    reals,
    source,
    source_pixel,
    num_inputs,
    weights,
    scale,
    shift,
    values,
    out,
    pixel,
    num_pixels,
    num_blocks,
    keep,
    rectifies,
):
    """A real 1x1 convolution of a row, summed in float64, scaled and shifted; see `add_products`.

    Args:
      rectifies: whether it is one of max(x, 0).
    """
    for block in range(num_blocks):
        for x in range(num_pixels):
            total = splat_d(0.0)
            for c in range(num_inputs):
                value = np.float64(get_f(values, source + x * source_pixel + c))
                if rectifies:
                    value = max(value, 0.0)
                total = multiply_add_d(
                    splat_d(value), load_d(doubles_of, weights + (block * num_inputs + c) * LANES), total
                )
            place = out + x * pixel + block * LANES
            result = _affine(narrow(total), reals, scale + block * LANES, shift + block * LANES)
            _put(values, place, result, keep)


@njit
def add_row(values, source, source_pixel, out, pixel, num_pixels, num_blocks, keep):
    """An identity: values[out] (+)= values[source]."""
    for x in range(num_pixels):
        for block in range(num_blocks):
            place = out + x * pixel + block * LANES
            value = load_f(values, source + x * source_pixel + block * LANES)
            _put(values, place, value, keep)


@njit
def add_pool(values, reals, source, source_pixel, size, y, stride, is_max, scale, shift, out, pixel, num_blocks, keep):
    """A row of 3x3 pooling, then scale and shift; pixels beyond the image count neither in a maximum nor in a mean.

    Args:
      source: offset of the image; `size`: its rows and columns.
      y: the row of results.
    """
    top, bottom = max(y * stride - 1, 0), min(y * stride + 2, size)
    for x in range(size // stride):
        left, right = max(x * stride - 1, 0), min(x * stride + 2, size)
        divisor = splat_f(np.float32((bottom - top) * (right - left)))
        for block in range(num_blocks):
            total = load_f(values, source + (top * size + left) * source_pixel + block * LANES)
            for row in range(top, bottom):
                for column in range(left, right):
                    if row > top or column > left:
                        value = load_f(values, source + (row * size + column) * source_pixel + block * LANES)
                        total = larger_f(total, value) if is_max else add_f(total, value)
            if not is_max:
                total = divide_f(total, divisor)
            place = out + x * pixel + block * LANES
            _put(values, place, _affine(total, reals, scale + block * LANES, shift + block * LANES), keep)


@njit
def add_shortcut(
    values, source, source_pixel, source_row, halves, num_groups, channels, out, pixel, num_pixels, num_blocks, keep
):
    """values[out] (+)= group * (1 / num_groups) for every group of `channels` channels of the source, one by one.

    With `halves` the source's value is the mean over 2x2 pixels; `source` is its first pixel, `source_row` a row.
    """
    part = splat_f(np.float32(1 / num_groups))
    quarter = splat_f(np.float32(0.25))
    for x in range(num_pixels):
        for block in range(num_blocks):
            place = out + x * pixel + block * LANES
            total = load_f(values, place) if keep else splat_f(np.float32(0))
            for group in range(num_groups):
                at = source + group * channels + block * LANES
                if halves:
                    at += 2 * x * source_pixel
                    value = add_f(load_f(values, at), load_f(values, at + source_pixel))
                    value = add_f(value, load_f(values, at + source_row))
                    value = multiply_f(add_f(value, load_f(values, at + source_row + source_pixel)), quarter)
                else:
                    value = load_f(values, at + x * source_pixel)
                total = add_f(total, multiply_f(value, part))
            store_f(values, place, total)


@njit
def fill_row(values, out, pixel, num_pixels, num_blocks):
    """Zeros: the value of a node that nothing reaches."""
    for x in range(num_pixels):
        for block in range(num_blocks):
            store_f(values, out + x * pixel + block * LANES, splat_f(np.float32(0)))


def _stem_kernel(splat_zero, splat_at, load_filters, multiply_add, to_values):
    """The stem's kernel over vectors of one kind: float64, or float32 where all sums are whole numbers."""

    @njit
    def stem_row(source_of, filters_of, reals, source, row, source_pixel, num_channels, kernel_size, stride, weights,
                 scale, shift, results_of, results, pixel, num_pixels, num_blocks, finish, largest):  # fmt: skip
        """A real convolution of a row of a padded image, scaled and shifted, and finished.

        Args:
          source: offset in `source_of` of the first value under the row's first tap; `row`, `source_pixel`: values to
            the next row and pixel.
          weights: offset of (blocks, k * k * num_channels, 16), rows of the filter first.
          finish: 0: float32 values; 1: max(x, 0) as float64; 2: max(x, 0) in whole steps up to `largest`, as float32.
        """
        four = num_pixels - num_pixels % 4
        step, taps = stride * source_pixel, kernel_size * kernel_size * num_channels
        for block in range(num_blocks):
            s, t = load_f(reals, scale + block * LANES), load_f(reals, shift + block * LANES)
            for x in range(0, four, 4):
                t0 = splat_zero()
                t1, t2, t3 = t0, t0, t0
                w_at = weights + block * taps * LANES
                for line in range(kernel_size):
                    for column in range(kernel_size):
                        at = source + line * row + column * source_pixel + x * step
                        for c in range(at, at + num_channels):
                            w = load_filters(filters_of, w_at)
                            t0 = multiply_add(splat_at(source_of, c), w, t0)
                            t1 = multiply_add(splat_at(source_of, c + step), w, t1)
                            t2 = multiply_add(splat_at(source_of, c + 2 * step), w, t2)
                            t3 = multiply_add(splat_at(source_of, c + 3 * step), w, t3)
                            w_at += LANES
                place = results + x * pixel + block * LANES
                _finish(results_of, place, to_values(t0), s, t, finish, largest)
                _finish(results_of, place + pixel, to_values(t1), s, t, finish, largest)
                _finish(results_of, place + 2 * pixel, to_values(t2), s, t, finish, largest)
                _finish(results_of, place + 3 * pixel, to_values(t3), s, t, finish, largest)
            for x in range(four, num_pixels):
                total = splat_zero()
                w_at = weights + block * taps * LANES
                for line in range(kernel_size):
                    for column in range(kernel_size):
                        at = source + line * row + column * source_pixel + x * step
                        for c in range(at, at + num_channels):
                            total = multiply_add(splat_at(source_of, c), load_filters(filters_of, w_at), total)
                            w_at += LANES
                place = results + x * pixel + block * LANES
                _finish(results_of, place, to_values(total), s, t, finish, largest)

    return stem_row


@njit(inline="always")
def _finish(results_of, place, total, scale, shift, finish, largest):
    value = add_f(multiply_f(total, scale), shift)
    if finish == STORE:
        store_f(results_of, place, value)
    elif finish == RECTIFY:
        store_d(results_of, place, widen(larger_f(value, splat_f(np.float32(0)))))
    else:
        steps = multiply_f(larger_f(value, splat_f(np.float32(0))), splat_f(np.float32(VALUE_STEPS)))
        # adding 2^23 leaves no bits behind the point: rounded to nearest, halves to even
        steps = add_f(smaller_f(steps, splat_f(np.float32(largest))), splat_f(np.float32(2**23)))
        store_f(results_of, place, add_f(steps, splat_f(np.float32(-(2**23)))))


@njit(inline="always")
def _zero_d():
    return splat_d(0.0)


@njit(inline="always")
def _zero_f():
    return splat_f(np.float32(0))


@njit(inline="always")
def _multiply_add_f(x, y, total):
    return add_f(total, multiply_f(x, y))


@njit(inline="always")
def _same(total):
    return total


@njit(inline="always")
def _narrowed(total):
    return narrow(total)


stem_row = _stem_kernel(_zero_d, splat_d_at, load_d, multiply_add_d, _narrowed)
stem_row_whole = _stem_kernel(_zero_f, splat_f_at, load_f, _multiply_add_f, _same)


@njit
def end_row(values, reals, out, pixel, num_pixels, num_blocks, slope, before, after, num_edges):
    """PReLU(x / num_edges + before) + after of a row, in place; an offset of -1 for what there is not."""
    part = splat_f(np.float32(1 / num_edges))
    for block in range(num_blocks):
        for x in range(num_pixels):
            place = out + x * pixel + block * LANES
            value = load_f(values, place)
            if num_edges > 1:
                value = multiply_f(value, part)
            if before >= 0:
                value = add_f(value, load_f(reals, before + block * LANES))
            if slope >= 0:
                value = positive_or(value, multiply_f(value, load_f(reals, slope + block * LANES)))
            if after >= 0:
                value = add_f(value, load_f(reals, after + block * LANES))
            store_f(values, place, value)


@njit
def classify(values, reals, source, pixel, num_pixels, num_features, weights, bias, num_classes, features, logits):
    """The mean over all pixels, then the linear layer, both summed in float64; `features` is room for the means.

    Behind it there is no sign any more, so its last bits need not be PyTorch's. The weights are (classes, features),
    with zeros behind each row up to whole vectors.
    """
    for c in range(0, num_features, LANES):
        total, one = splat_d(0.0), splat_d(1.0)
        for x in range(num_pixels):
            total = multiply_add_d(widen(load_f(values, source + x * pixel + c)), one, total)
        store_f(values, features + c, divide_f(narrow(total), splat_f(np.float32(num_pixels))))
    row = (num_features + LANES - 1) // LANES * LANES
    for k in range(num_classes):
        total = splat_d(0.0)
        for c in range(0, num_features, LANES):
            weight = widen(load_f(reals, weights + k * row + c))
            total = multiply_add_d(widen(load_f(values, features + c)), weight, total)
        put_f(logits, k, np.float32(sum_d(total) + np.float64(get_f(reals, bias + k))))
