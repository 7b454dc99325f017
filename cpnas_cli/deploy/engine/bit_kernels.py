"""The 1-bit arithmetic of a packed network, one row of an image at a time.

Sums of signs are counts of bits, exact; they are scaled and added up in the order and with the roundings of the
PyTorch Child in evaluation mode, so that both compute the same numbers.

The memory that a kernel works on is given by addresses (see `lanes`).

Layouts (offsets and strides count elements; C, H, W of one image):
  values  float32, channels last: the channels of a pixel are contiguous, padded to whole vectors
  words   uint32, one plane of H x W words per 32 channels, bit c % 32 of word c // 32 for channel c: 1 for +1.
          Planes have a border of zeros where a depthwise convolution looks beyond the image. A zero there
          counts like -1; the thresholds of the pixels near the border allow for it.
"""

# numba types and compiles these functions by itself; to a type checker they are plain Python without types.
# pyright: basic, reportCallIssue=false
import numpy as np
from numba import njit

from cpnas_cli.deploy.engine import product_columns as columns
from cpnas_cli.deploy.engine.lanes import (
    LANES,
    add_f,
    add_u,
    conjunction,
    even_lanes,
    get_i,
    get_u,
    load_f,
    load_u,
    majority,
    multiply_add_f,
    multiply_f,
    parity,
    popcount,
    put_u,
    shift_left,
    shift_right,
    signs,
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
def _affine(differing, num_inputs, scale, shift):
    """(agreeing - differing signs) * scale + shift: F. The difference is a whole number, so one rounding is none."""
    signed = multiply_add_f(to_f(differing), splat_f(np.float32(-2)), num_inputs)
    return add_f(multiply_f(signed, scale), shift)


@njit
def add_products(words, constants, reals, products, num_products, y, values, out, pixel, num_pixels, num_blocks, keep):
    """Scaled 1x1 convolutions of row y, added up in their order: values (+)= sum_p (signs of p) * scale_p + shift_p.

    Args:
      products: int64, (num_products, columns.PRODUCT_COLUMNS).
      out, pixel: offset of the row's first value, and values from a pixel to the next.
      num_blocks: vectors of 16 output channels.
      keep: whether to add to what is there.
    """
    four = num_pixels - num_pixels % 4
    for block in range(num_blocks):
        for x in range(0, four, 4):
            place = out + x * pixel + block * LANES
            if keep:
                v0, v1 = load_f(values, place), load_f(values, place + pixel)
                v2, v3 = load_f(values, place + 2 * pixel), load_f(values, place + 3 * pixel)
            else:
                v0 = splat_f(np.float32(0))
                v1, v2, v3 = v0, v0, v0
            for p in range(0, num_products * columns.PRODUCT_COLUMNS, columns.PRODUCT_COLUMNS):
                step, plane = get_i(products, p + columns.STEP), get_i(products, p + columns.PLANE)
                num_words = get_i(products, p + columns.NUM_WORDS)
                at = get_i(products, p + columns.WORDS) + y * get_i(products, p + columns.ROW) + x * step
                filters_at = get_i(products, p + columns.WEIGHTS) + block * num_words * LANES
                c0 = splat_u(np.uint32(0))
                c1, c2, c3 = c0, c0, c0
                for _ in range(num_words):
                    filters = load_u(constants, filters_at)
                    c0 = add_u(c0, popcount(xor(filters, splat_u_at(words, at))))
                    c1 = add_u(c1, popcount(xor(filters, splat_u_at(words, at + step))))
                    c2 = add_u(c2, popcount(xor(filters, splat_u_at(words, at + 2 * step))))
                    c3 = add_u(c3, popcount(xor(filters, splat_u_at(words, at + 3 * step))))
                    at += plane
                    filters_at += LANES
                inputs = splat_f(np.float32(get_i(products, p + columns.NUM_INPUTS)))
                scale = load_f(reals, get_i(products, p + columns.SCALE) + block * LANES)
                shift = load_f(reals, get_i(products, p + columns.SHIFT) + block * LANES)
                v0 = add_f(v0, _affine(c0, inputs, scale, shift))
                v1 = add_f(v1, _affine(c1, inputs, scale, shift))
                v2 = add_f(v2, _affine(c2, inputs, scale, shift))
                v3 = add_f(v3, _affine(c3, inputs, scale, shift))
            store_f(values, place, v0)
            store_f(values, place + pixel, v1)
            store_f(values, place + 2 * pixel, v2)
            store_f(values, place + 3 * pixel, v3)
        for x in range(four, num_pixels):
            place = out + x * pixel + block * LANES
            value = load_f(values, place) if keep else splat_f(np.float32(0))
            for p in range(0, num_products * columns.PRODUCT_COLUMNS, columns.PRODUCT_COLUMNS):
                num_words = get_i(products, p + columns.NUM_WORDS)
                at = (
                    get_i(products, p + columns.WORDS)
                    + y * get_i(products, p + columns.ROW)
                    + x * get_i(products, p + columns.STEP)
                )
                filters_at = get_i(products, p + columns.WEIGHTS) + block * num_words * LANES
                count = splat_u(np.uint32(0))
                for _ in range(num_words):
                    count = add_u(count, popcount(xor(load_u(constants, filters_at), splat_u_at(words, at))))
                    at += get_i(products, p + columns.PLANE)
                    filters_at += LANES
                inputs = splat_f(np.float32(get_i(products, p + columns.NUM_INPUTS)))
                scale = load_f(reals, get_i(products, p + columns.SCALE) + block * LANES)
                shift = load_f(reals, get_i(products, p + columns.SHIFT) + block * LANES)
                value = add_f(value, _affine(count, inputs, scale, shift))
            store_f(values, place, value)


@njit(inline="always")
def _tap(words, constants, place, stride, weight):
    """16 pixels of a row against one tap of 32 filters: U, 1 where the signs agree (weights are stored negated)."""
    pixels = load_u(words, place)
    if stride == 2:
        pixels = even_lanes(pixels, load_u(words, place + LANES))
    return xor(pixels, splat_u_at(constants, weight))


@njit(inline="always")
def _at_least(carry, bit, negated_threshold):
    """One more binary digit, from the lowest on, of count >= threshold: the carry of count + ~threshold + 1."""
    return majority(bit, negated_threshold, carry)


@njit(inline="always")
def _four_at_least(constants, thresholds, digit, ones, twos, fours, eights):
    """The carry after the lowest four digits; `digit`: from one digit of the thresholds to the next."""
    carry = splat_u(np.uint32(0xFFFFFFFF))
    carry = _at_least(carry, ones, load_u(constants, thresholds))
    carry = _at_least(carry, twos, load_u(constants, thresholds + digit))
    carry = _at_least(carry, fours, load_u(constants, thresholds + 2 * digit))
    return _at_least(carry, eights, load_u(constants, thresholds + 3 * digit))


@njit
def depthwise_3x3(words, constants, source, row, plane, dilation, stride, weights, thresholds, width, num_words, out):
    """The signs of a row of a 1-bit depthwise convolution: counts of agreeing taps against thresholds.

    512 counts at once (32 channels of 16 pixels), bit-sliced: digit k of a channel's count is its bit of the k-th word.

    Args:
      source: offset of the word under the first tap of the row's first pixel; `row`, `plane`: words to the next.
      weights: offset of the taps, (9, num_words), negated signs.
      thresholds: offset of this row's thresholds, (4 digits, num_words, width), each digit negated.
      width: of the row of results, rounded up to whole vectors.
      out: offset of the results, (num_words, width).
    """
    for word in range(num_words):
        for x in range(0, width, LANES):
            at = source + word * plane + x * stride
            w = weights + word
            a = at
            x0 = _tap(words, constants, a, stride, w)
            x1 = _tap(words, constants, a + dilation, stride, w + num_words)
            x2 = _tap(words, constants, a + 2 * dilation, stride, w + 2 * num_words)
            a = at + row * dilation
            x3 = _tap(words, constants, a, stride, w + 3 * num_words)
            x4 = _tap(words, constants, a + dilation, stride, w + 4 * num_words)
            x5 = _tap(words, constants, a + 2 * dilation, stride, w + 5 * num_words)
            a = at + 2 * row * dilation
            x6 = _tap(words, constants, a, stride, w + 6 * num_words)
            x7 = _tap(words, constants, a + dilation, stride, w + 7 * num_words)
            x8 = _tap(words, constants, a + 2 * dilation, stride, w + 8 * num_words)
            s0, c0 = parity(x0, x1, x2), majority(x0, x1, x2)
            s1, c1 = parity(x3, x4, x5), majority(x3, x4, x5)
            s2, c2 = parity(x6, x7, x8), majority(x6, x7, x8)
            ones, c3 = parity(s0, s1, s2), majority(s0, s1, s2)
            s3, d0 = parity(c0, c1, c2), majority(c0, c1, c2)
            twos, d1 = xor(s3, c3), conjunction(s3, c3)
            fours, eights = xor(d0, d1), conjunction(d0, d1)
            t = thresholds + word * width + x
            digit = num_words * width
            carry = _four_at_least(constants, t, digit, ones, twos, fours, eights)
            store_u(words, out + word * width + x, carry)


@njit(inline="always")
def _count_7(a, b, c, d, e, f, g):
    """The number of set bits among seven, as three binary digits."""
    s0, c0 = parity(a, b, c), majority(a, b, c)
    s1, c1 = parity(d, e, f), majority(d, e, f)
    ones, c2 = parity(s0, s1, g), majority(s0, s1, g)
    return ones, parity(c0, c1, c2), majority(c0, c1, c2)


@njit(inline="always")
def _five(words, constants, at, dilation, stride, weight, num_words):
    return (
        _tap(words, constants, at, stride, weight),
        _tap(words, constants, at + dilation, stride, weight + num_words),
        _tap(words, constants, at + 2 * dilation, stride, weight + 2 * num_words),
        _tap(words, constants, at + 3 * dilation, stride, weight + 3 * num_words),
        _tap(words, constants, at + 4 * dilation, stride, weight + 4 * num_words),
    )


@njit
def depthwise_5x5(words, constants, source, row, plane, dilation, stride, weights, thresholds, width, num_words, out):
    """Like `depthwise_3x3`, with 25 taps and thresholds of 5 digits."""
    down = row * dilation
    for word in range(num_words):
        for x in range(0, width, LANES):
            at = source + word * plane + x * stride
            w = weights + word
            line = 5 * num_words
            a0, a1, a2, a3, a4 = _five(words, constants, at, dilation, stride, w, num_words)
            b0, b1, b2, b3, b4 = _five(words, constants, at + down, dilation, stride, w + line, num_words)
            c0, c1, c2, c3, c4 = _five(words, constants, at + 2 * down, dilation, stride, w + 2 * line, num_words)
            d0, d1, d2, d3, d4 = _five(words, constants, at + 3 * down, dilation, stride, w + 3 * line, num_words)
            e0, e1, e2, e3, e4 = _five(words, constants, at + 4 * down, dilation, stride, w + 4 * line, num_words)
            p1, p2, p4 = _count_7(a0, a1, a2, a3, a4, b0, b1)
            q1, q2, q4 = _count_7(b2, b3, b4, c0, c1, c2, c3)
            r1, r2, r4 = _count_7(c4, d0, d1, d2, d3, d4, e0)
            ones, k2, k4 = _count_7(p1, q1, r1, e1, e2, e3, e4)
            s2, m4 = parity(p2, q2, r2), majority(p2, q2, r2)
            twos, n4 = xor(s2, k2), conjunction(s2, k2)
            s4, u8 = parity(p4, q4, r4), majority(p4, q4, r4)
            t4, v8 = parity(k4, m4, n4), majority(k4, m4, n4)
            fours, w8 = xor(s4, t4), conjunction(s4, t4)
            eights, sixteens = parity(u8, v8, w8), majority(u8, v8, w8)
            t = thresholds + word * width + x
            digit = num_words * width
            carry = _four_at_least(constants, t, digit, ones, twos, fours, eights)
            carry = _at_least(carry, sixteens, load_u(constants, t + 4 * digit))
            store_u(words, out + word * width + x, carry)


@njit
def depthwise_any(
    words, constants, source, row, plane, dilation, stride, weights, thresholds, width, num_words, out, kernel_size
):
    """Like `depthwise_3x3`, with a filter of any size up to 11x11 and thresholds of 7 digits: tap after tap."""
    for word in range(num_words):
        for x in range(0, width, LANES):
            at = source + word * plane + x * stride
            w = weights + word
            ones = splat_u(np.uint32(0))
            twos, fours, eights, sixteens, thirty_twos, sixty_fours = ones, ones, ones, ones, ones, ones
            for line in range(kernel_size):
                for column in range(kernel_size):
                    tap = _tap(words, constants, at + (line * row + column) * dilation, stride, w)
                    w += num_words
                    ones, tap = xor(ones, tap), conjunction(ones, tap)
                    twos, tap = xor(twos, tap), conjunction(twos, tap)
                    fours, tap = xor(fours, tap), conjunction(fours, tap)
                    eights, tap = xor(eights, tap), conjunction(eights, tap)
                    sixteens, tap = xor(sixteens, tap), conjunction(sixteens, tap)
                    thirty_twos, tap = xor(thirty_twos, tap), conjunction(thirty_twos, tap)
                    sixty_fours = xor(sixty_fours, tap)
            t = thresholds + word * width + x
            digit = num_words * width
            carry = _four_at_least(constants, t, digit, ones, twos, fours, eights)
            carry = _at_least(carry, sixteens, load_u(constants, t + 4 * digit))
            carry = _at_least(carry, thirty_twos, load_u(constants, t + 5 * digit))
            carry = _at_least(carry, sixty_fours, load_u(constants, t + 6 * digit))
            store_u(words, out + word * width + x, carry)


@njit
def pack_row(values, row, pixel, num_pixels, masks, constants, words, out, plane, num_words, reals, shift):
    """The signs of a row of values, each with its channel's shift added; `masks` (num_words) clears the bits that are
    no channels.
    """
    for word in range(num_words):
        mask = get_u(constants, masks + word)
        low = load_f(reals, shift + word * 2 * LANES)
        place, to = row + word * 2 * LANES, out + word * plane
        if mask >> np.uint32(LANES) == 0:
            for x in range(num_pixels):
                put_u(words, to + x, signs(add_f(load_f(values, place + x * pixel), low)) & mask)
            continue
        high = load_f(reals, shift + word * 2 * LANES + LANES)
        for x in range(num_pixels):
            first = add_f(load_f(values, place + x * pixel), low)
            second = add_f(load_f(values, place + x * pixel + LANES), high)
            put_u(words, to + x, (signs(first) | (signs(second) << np.uint32(LANES))) & mask)


@njit
def concatenate_row(words, table, sources, y, channels, num_words, out, plane, width):
    """The words of four nodes of `channels` channels side by side, as words of 4 * channels channels.

    Args:
      table, sources: int64, and where in it (4, 3) numbers begin: a node's first word, words to the next row and plane.
    """
    for x in range(0, width, LANES):
        for word in range(num_words):
            store_u(words, out + word * plane + x, splat_u(np.uint32(0)))
        for node in range(4):
            entry = sources + 3 * node
            source = get_i(table, entry) + y * get_i(table, entry + 1) + x
            for word in range((channels + 31) // 32):
                bits = load_u(words, source + word * get_i(table, entry + 2))
                first = node * channels + word * 32
                shift = first % 32
                place = out + (first // 32) * plane + x
                store_u(words, place, union(load_u(words, place), shift_left(bits, splat_u(np.uint32(shift)))))
                if shift > 0 and first // 32 + 1 < num_words:
                    rest = shift_right(bits, splat_u(np.uint32(32 - shift)))
                    store_u(words, place + plane, union(load_u(words, place + plane), rest))
