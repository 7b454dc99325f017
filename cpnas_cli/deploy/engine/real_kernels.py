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
    put_f,
    splat_d,
    splat_d_at,
    splat_f,
    store_f,
    sum_d,
    widen,
)


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
):
    """A real 1x1 convolution of max(x, 0) of a row, summed in float64, scaled and shifted; see `add_products`."""
    for block in range(num_blocks):
        for x in range(num_pixels):
            total = splat_d(0.0)
            for c in range(num_inputs):
                value = np.float64(max(get_f(values, source + x * source_pixel + c), np.float32(0)))
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
    values, source, source_pixel, source_row, halves, num_groups, channels, out, pixel, num_pixels, num_blocks
):
    """values[out] += group * (1 / num_groups) for every group of `channels` channels of the source, one by one.

    With `halves` the source's value is the mean over 2x2 pixels; `source` is its first pixel, `source_row` a row.
    """
    part = splat_f(np.float32(1 / num_groups))
    quarter = splat_f(np.float32(0.25))
    for x in range(num_pixels):
        for block in range(num_blocks):
            place = out + x * pixel + block * LANES
            total = load_f(values, place)
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


@njit
def stem_row(
    doubles,
    doubles_of,
    reals,
    source,
    row,
    num_channels,
    kernel_size,
    stride,
    weights,
    scale,
    shift,
    values,
    out,
    pixel,
    num_pixels,
    num_blocks,
):
    """A real convolution of a row of the padded image, summed in float64, scaled and shifted.

    Args:
      source: offset in `doubles` of the first value under the row's first tap; `row`: values of an image row.
      weights: offset of (blocks, k * k * num_channels, 16), rows of the filter first.
    """
    taps = kernel_size * num_channels
    four = num_pixels - num_pixels % 4
    step = stride * num_channels
    for block in range(num_blocks):
        s, t = load_f(reals, scale + block * LANES), load_f(reals, shift + block * LANES)
        for x in range(0, four, 4):
            t0 = splat_d(0.0)
            t1, t2, t3 = t0, t0, t0
            for line in range(kernel_size):
                at = source + line * row + x * step
                first = weights + (block * kernel_size + line) * taps * LANES
                for tap in range(taps):
                    w = load_d(doubles_of, first + tap * LANES)
                    t0 = multiply_add_d(splat_d_at(doubles, at + tap), w, t0)
                    t1 = multiply_add_d(splat_d_at(doubles, at + tap + step), w, t1)
                    t2 = multiply_add_d(splat_d_at(doubles, at + tap + 2 * step), w, t2)
                    t3 = multiply_add_d(splat_d_at(doubles, at + tap + 3 * step), w, t3)
            place = out + x * pixel + block * LANES
            store_f(values, place, add_f(multiply_f(narrow(t0), s), t))
            store_f(values, place + pixel, add_f(multiply_f(narrow(t1), s), t))
            store_f(values, place + 2 * pixel, add_f(multiply_f(narrow(t2), s), t))
            store_f(values, place + 3 * pixel, add_f(multiply_f(narrow(t3), s), t))
        for x in range(four, num_pixels):
            total = splat_d(0.0)
            for line in range(kernel_size):
                first = weights + (block * kernel_size + line) * taps * LANES
                for tap in range(taps):
                    value = splat_d_at(doubles, source + line * row + x * step + tap)
                    total = multiply_add_d(value, load_d(doubles_of, first + tap * LANES), total)
            store_f(values, out + x * pixel + block * LANES, add_f(multiply_f(narrow(total), s), t))


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
