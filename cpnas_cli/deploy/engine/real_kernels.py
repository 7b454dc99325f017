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
    splat_d,
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


@njit(inline="always")
def _largest_of_column(values, top, middle, bottom):
    return larger_f(larger_f(load_f(values, top), load_f(values, middle)), load_f(values, bottom))


@njit
def add_max_pool(values, reals, source, source_pixel, size, y, stride, scale, shift, out, pixel, num_blocks, keep):
    """A row of the largest of 3x3 pixels, then scale and shift. Each column's largest is found once.

    Args:
      source: offset of the image; `size`: its rows and columns.
      y: the row of results; `stride`: 1 or 2.
    """
    row, middle = size * source_pixel, y * stride
    # beyond the border the pixel beside it counts again
    top, bottom = source + max(middle - 1, 0) * row, source + min(middle + 1, size - 1) * row
    middle = source + middle * row
    for block in range(num_blocks):
        first = block * LANES
        s, t = load_f(reals, scale + first), load_f(reals, shift + first)
        left = _largest_of_column(values, top + first, middle + first, bottom + first)
        center = left
        for x in range(size // stride):
            if stride == 2:
                at = first + 2 * x * source_pixel
                center = _largest_of_column(values, top + at, middle + at, bottom + at)
            at = first + min(x * stride + 1, size - 1) * source_pixel
            right = _largest_of_column(values, top + at, middle + at, bottom + at)
            value = add_f(multiply_f(larger_f(larger_f(left, center), right), s), t)
            _put(values, out + x * pixel + first, value, keep)
            left = right if stride == 2 else center
            center = right


@njit(inline="always")
def _sum_of_row(values, at, pixel, total):
    """Three pixels side by side, added one after the other."""
    return add_f(add_f(add_f(total, load_f(values, at)), load_f(values, at + pixel)), load_f(values, at + 2 * pixel))


@njit
def add_avg_pool(values, reals, source, source_pixel, size, y, stride, scale, shift, out, pixel, num_blocks, keep):
    """A row of the mean of 3x3 pixels, summed in the order of reading; pixels beyond the image do not count. See
    `add_max_pool`.
    """
    row, count = size * source_pixel, size // stride
    top, bottom = max(y * stride - 1, 0), min(y * stride + 2, size)
    inner = count - 1 if (count - 1) * stride + 2 > size else count  # from 1 to before it all columns are there
    for block in range(num_blocks):
        first = block * LANES
        s, t = load_f(reals, scale + first), load_f(reals, shift + first)
        divisor = splat_f(np.float32(3 * (bottom - top)))
        for x in range(1, inner):
            at = source + top * row + (x * stride - 1) * source_pixel + first
            total = add_f(load_f(values, at), load_f(values, at + source_pixel))
            total = add_f(total, load_f(values, at + 2 * source_pixel))
            for _ in range(top + 1, bottom):
                at += row
                total = _sum_of_row(values, at, source_pixel, total)
            value = add_f(multiply_f(divide_f(total, divisor), s), t)
            _put(values, out + x * pixel + first, value, keep)
        for x in range(0, count, max(inner, 1)):
            left, right = max(x * stride - 1, 0), min(x * stride + 2, size)
            total = load_f(values, source + top * row + left * source_pixel + first)
            for line in range(top, bottom):
                for column in range(left, right):
                    if line > top or column > left:
                        total = add_f(total, load_f(values, source + line * row + column * source_pixel + first))
            total = divide_f(total, splat_f(np.float32((bottom - top) * (right - left))))
            _put(values, out + x * pixel + first, add_f(multiply_f(total, s), t), keep)


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
