"""Grouped 1-bit convolutions; layouts as in `bit_kernels`.

What the filters of a group read is first gathered: per pixel one patch, the bits of its inputs tap after tap, without
gaps; all convolutions of one size that read a node share its patches. Then 16 output channels and 4 pixels at a time
are compared with it, word by word. A tap beyond the image reads the zeros of the border, which count like -1; what a
sum starts with allows for it.
"""

# numba types and compiles these functions by itself; to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import numpy as np
from numba import njit

from cpnas_cli.deploy.engine.lanes import (
    LANES,
    add_f,
    add_u,
    conjunction,
    even_lanes,
    get_i,
    load_f,
    load_u,
    multiply_add_f,
    multiply_f,
    popcount,
    rotate_left,
    splat_f,
    splat_u,
    splat_u_at,
    store_f,
    store_u,
    to_f,
    union,
    xor,
)


@njit(inline="always")
def _read(words, at, stride):
    read = load_u(words, at)
    if stride == 2:
        read = even_lanes(read, load_u(words, at + LANES))
    return read


@njit
def gather(words, constants, table, pieces, bits, num_words, source, stride, num_pixels, out, plane):
    """The patches of all pixels of an image, rows one after the other, with what lies beside them.

    Args:
      pieces: where in `table` they stand: for each word of a patch how many pieces it has, and for each of them where
        its first pixel lies, counted from `source`.
      bits: offset in `constants` of two numbers for each piece: by how many bits it is rotated to the left, and which
        bits of the result it is.
      source: offset of the word of the first pixel, on which the middle of the filter lies.
      num_pixels: how many patches there are; `stride`: words of the image from one to the next, 1 or 2.
      out, plane: offset of the patches' first word, and words from one to the next.
    """
    for word in range(num_words):
        count, to = get_i(table, pieces), out + word * plane
        if count == 2:
            first, second = source + get_i(table, pieces + 1), source + get_i(table, pieces + 2)
            turn, more_turn = splat_u_at(constants, bits), splat_u_at(constants, bits + 2)
            mask, more_mask = splat_u_at(constants, bits + 1), splat_u_at(constants, bits + 3)
            for x in range(0, num_pixels, LANES):
                low = conjunction(rotate_left(_read(words, first + x * stride, stride), turn), mask)
                high = conjunction(rotate_left(_read(words, second + x * stride, stride), more_turn), more_mask)
                store_u(words, to + x, union(low, high))
        else:
            for x in range(0, num_pixels, LANES):
                found = splat_u(np.uint32(0))
                for piece in range(count):
                    at = source + get_i(table, pieces + 1 + piece) + x * stride
                    rotated = rotate_left(_read(words, at, stride), splat_u_at(constants, bits + 2 * piece))
                    found = union(found, conjunction(rotated, splat_u_at(constants, bits + 2 * piece + 1)))
                store_u(words, to + x, found)
        pieces += 1 + count
        bits += 2 * count


@njit(inline="always")
def _residual(values, place, pixel, row, halves):
    """What a grouped convolution adds: the value that it reads, or the mean over 2x2 pixels: F."""
    value = load_f(values, place)
    if halves:
        value = add_f(value, load_f(values, place + pixel))
        value = add_f(value, load_f(values, place + row))
        value = multiply_f(add_f(value, load_f(values, place + row + pixel)), splat_f(np.float32(0.25)))
    return value


@njit(inline="always")
def _finished(count, reals, start, scale, shift, residual):
    """(sum of signs) * scale + shift + residual: F. The sum is a whole number, so one rounding is none."""
    total = multiply_add_f(to_f(count), splat_f(np.float32(-2)), load_f(reals, start))
    return add_f(add_f(multiply_f(total, scale), shift), residual)


def _patches_kernel(masked):
    """The kernel for 16 filters that read all of the patch, or each a part of it (`mask` tells which)."""

    @njit(inline="always")
    def differing(filters, constants, mask, patch):
        bits = xor(filters, patch)
        return popcount(conjunction(bits, load_u(constants, mask)) if masked else bits)

    @njit
    def add_patches_row(words, constants, reals, patches, plane, num_words, filters, mask, table, columns, start, scale,
                        shift, values, residual, residual_pixel, residual_row, halves, out, pixel, num_pixels,
                        keep):  # fmt: skip
        """16 output channels of a row: values (+)= (sum of signs * scale + shift) + residual.

        Args:
          patches: offset of the row's first patch; `plane`, `num_words`: words to the next word of it, and how many.
          filters, mask: offsets of uint32 (num_words, 16).
          columns: where in `table` the offset from `start` is told for each pixel of the row, at which the number of
            its taps' inputs lies, and twice the filter's ones beyond the image: float32, per channel.
          residual: offset of the first pixel that the row adds; `residual_pixel`, `residual_row`: values to the next.
        """
        four = num_pixels - num_pixels % 4
        s, t = load_f(reals, scale), load_f(reals, shift)
        step = residual_pixel * 2 if halves else residual_pixel
        for x in range(0, four, 4):
            c0 = splat_u(np.uint32(0))
            c1, c2, c3 = c0, c0, c0
            at = patches + x
            for word in range(num_words):
                own, m = load_u(constants, filters + word * LANES), mask + word * LANES
                c0 = add_u(c0, differing(own, constants, m, splat_u_at(words, at)))
                c1 = add_u(c1, differing(own, constants, m, splat_u_at(words, at + 1)))
                c2 = add_u(c2, differing(own, constants, m, splat_u_at(words, at + 2)))
                c3 = add_u(c3, differing(own, constants, m, splat_u_at(words, at + 3)))
                at += plane
            added = residual + x * step
            r0 = _residual(values, added, residual_pixel, residual_row, halves)
            r1 = _residual(values, added + step, residual_pixel, residual_row, halves)
            r2 = _residual(values, added + 2 * step, residual_pixel, residual_row, halves)
            r3 = _residual(values, added + 3 * step, residual_pixel, residual_row, halves)
            v0 = _finished(c0, reals, start + get_i(table, columns + x), s, t, r0)
            v1 = _finished(c1, reals, start + get_i(table, columns + x + 1), s, t, r1)
            v2 = _finished(c2, reals, start + get_i(table, columns + x + 2), s, t, r2)
            v3 = _finished(c3, reals, start + get_i(table, columns + x + 3), s, t, r3)
            place = out + x * pixel
            if keep:
                v0, v1 = add_f(load_f(values, place), v0), add_f(load_f(values, place + pixel), v1)
                v2 = add_f(load_f(values, place + 2 * pixel), v2)
                v3 = add_f(load_f(values, place + 3 * pixel), v3)
            store_f(values, place, v0)
            store_f(values, place + pixel, v1)
            store_f(values, place + 2 * pixel, v2)
            store_f(values, place + 3 * pixel, v3)
        for x in range(four, num_pixels):
            count = splat_u(np.uint32(0))
            for word in range(num_words):
                own, m = load_u(constants, filters + word * LANES), mask + word * LANES
                count = add_u(count, differing(own, constants, m, splat_u_at(words, patches + x + word * plane)))
            added = _residual(values, residual + x * step, residual_pixel, residual_row, halves)
            value = _finished(count, reals, start + get_i(table, columns + x), s, t, added)
            place = out + x * pixel
            store_f(values, place, add_f(load_f(values, place), value) if keep else value)

    return add_patches_row


add_patches_row = _patches_kernel(masked=False)
add_masked_patches_row = _patches_kernel(masked=True)
