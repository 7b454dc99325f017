"""How weights lie in the constants of a program, and what is told apart near the border of an image."""

from dataclasses import dataclass

import numpy as np

from cpnas_cli.networks.layer import Layer

LANES = 16  # of a vector
WORD_BITS = 32


def num_blocks(channels: int) -> int:
    """Vectors that hold this many channels."""
    return -(-channels // LANES)


def num_words(channels: int) -> int:
    return -(-channels // WORD_BITS)


def whole_vectors(size: int) -> int:
    return num_blocks(size) * LANES


def filters_by_vectors(weights: np.ndarray) -> np.ndarray:
    """(C_out, C_in, k, k) -> (blocks, taps, 16); taps with the input channel last."""
    out_channels = weights.shape[0]
    taps = weights.transpose(0, 2, 3, 1).reshape(out_channels, -1)
    padded = np.zeros((num_blocks(out_channels) * LANES, taps.shape[1]))
    padded[:out_channels] = taps
    return padded.reshape(-1, LANES, taps.shape[1]).transpose(0, 2, 1)


def filters_by_pairs(weights: np.ndarray, *, joined: bool) -> np.ndarray:
    """Filters of whole numbers (C_out, C_in, k, k) as pairs of int16 that lie side by side in an image.

    Args:
      joined: whether a pixel follows the one before it without a gap, so that a row of the filter is one run; else
        every pixel is one. Behind an odd number of values there is a 0.

    Returns:
      uint32 (blocks, k, runs, pairs, 16), the first of two in the lower bits.
    """
    out_channels, _, kernel_size, _ = weights.shape
    runs = 1 if joined else kernel_size
    taps = weights.transpose(0, 2, 3, 1).reshape(out_channels, kernel_size, runs, -1)
    length = taps.shape[3]
    padded = np.zeros((whole_vectors(out_channels), kernel_size, runs, length + length % 2), "<i2")
    padded[:out_channels, :, :, :length] = taps
    words = np.ascontiguousarray(padded).view("<u4").astype(np.uint32)
    return np.moveaxis(words.reshape(-1, LANES, *words.shape[1:]), 1, -1)


@dataclass(frozen=True)
class PatchBlock:
    """16 filters of a grouped convolution over what all of them read, tap after tap without gaps.

    Attributes:
      channels: that they read, from the one to before the other.
      filters: uint32 (words, 16). masks: the same, 1 for the inputs of the filter; None where all filters read all.
    """

    channels: tuple[int, int]
    filters: np.ndarray
    masks: np.ndarray | None


def patch_blocks(signs: np.ndarray, num_groups: int) -> list[PatchBlock]:
    """Of the filters bool (C_out, C_in / groups, k, k)."""
    out_channels, inputs = signs.shape[:2]
    taps = signs.reshape(out_channels, inputs, -1).transpose(0, 2, 1)  # (C_out, k * k, inputs)
    blocks = list[PatchBlock]()
    for start in range(0, out_channels, LANES):
        own = range(start, min(start + LANES, out_channels))
        begins = [channel // (out_channels // num_groups) * inputs for channel in own]
        first, last = min(begins), max(begins) + inputs
        bits = np.zeros((2, LANES, taps.shape[1], last - first), bool)  # filters and masks
        for lane, (channel, begin) in enumerate(zip(own, begins, strict=True)):
            bits[0, lane, :, begin - first : begin - first + inputs] = taps[channel]
            bits[1, lane, :, begin - first : begin - first + inputs] = True
        padded = np.zeros((2, LANES, num_words(bits[0, 0].size) * WORD_BITS), bool)
        padded[:, :, : bits[0, 0].size] = bits.reshape(2, LANES, -1)
        words = np.packbits(padded, axis=2, bitorder="little").view(np.uint32).transpose(0, 2, 1)
        blocks.append(PatchBlock((first, last), words[0], words[1] if last - first > inputs else None))
    return blocks


def patch_pieces(first: int, last: int, num_taps: int) -> list[list[tuple[int, int, int, int]]]:
    """What the words of a patch of the channels from `first` to before `last` are put together from.

    Returns:
      for each word its pieces: tap, word of the image, rotation to the left, mask of the bits in the word.
    """
    words = [list[tuple[int, int, int, int]]() for _ in range(num_words((last - first) * num_taps))]
    place = 0
    for tap in range(num_taps):
        channel = first
        while channel < last:
            source, target = channel % WORD_BITS, place % WORD_BITS
            count = min(last - channel, WORD_BITS - source, WORD_BITS - target)
            mask, rotation = ((1 << count) - 1) << target, (target - source) % WORD_BITS
            words[place // WORD_BITS].append((tap, channel // WORD_BITS, rotation, mask))
            channel, place = channel + count, place + count
    return words


def sums_at_start(layer: Layer, signs: np.ndarray) -> np.ndarray:
    """What the sum of a grouped convolution is before its differing bits are counted, each of which takes 2 from it.

    The inputs of the taps inside the image, and twice the ones of the filter beyond it, where the image reads as zeros.

    Returns:
      float32 (patterns of rows, patterns of columns, C_out in whole vectors), patterns as in `row_patterns`.
    """
    patterns = list(dict.fromkeys(_valid_taps(layer, y) for y in range(layer.out_size)))
    lines = np.array(patterns)  # (patterns, k)
    valid = lines[:, None, :, None] & lines[None, :, None, :]  # (rows, columns, k, k)
    ones = signs.sum(axis=1)  # (C_out, k, k)
    outside = np.einsum("oij,rcij->rco", ones, (~valid).astype(int))
    sums = valid.sum(axis=(2, 3))[:, :, None] * layer.inputs_per_filter + 2 * outside
    return np.pad(sums, ((0, 0), (0, 0), (0, -layer.out_channels % LANES))).astype(np.float32)


def _valid_taps(layer: Layer, position: int) -> tuple[bool, ...]:
    """Which taps of a row (or column) of the filter lie inside the image, for a row (or column) of results."""
    first = position * layer.stride - layer.padding
    return tuple(0 <= first + tap * layer.dilation < layer.in_size for tap in range(layer.kernel_size))


def row_patterns(layer: Layer) -> list[int]:
    """For every row of results, the number of its pattern of valid taps."""
    patterns = list(dict.fromkeys(_valid_taps(layer, y) for y in range(layer.out_size)))
    return [patterns.index(_valid_taps(layer, y)) for y in range(layer.out_size)]


def threshold_planes(layer: Layer, signs: np.ndarray, thresholds: np.ndarray) -> list[np.ndarray]:
    """Per pattern of rows: negated binary digits of the least count of agreeing taps, uint32 (digits, words, width).

    The sum n of the valid taps is 2 a - v for a agreeing ones among v, so n >= t where a >= (t + v) / 2. A tap
    beyond the image reads 0, which agrees with a filter's -1: the count to compare with has these in it.
    """
    width, words = whole_vectors(layer.out_size), num_words(layer.in_channels)
    negative = ~signs[:, 0]  # (C, k, k)
    columns = np.array([_valid_taps(layer, x) for x in range(layer.out_size)])  # (W, k)
    patterns = row_patterns(layer)
    planes = list[np.ndarray]()
    for index in range(max(patterns) + 1):
        row = np.array(_valid_taps(layer, patterns.index(index)))  # (k,)
        valid = row[None, :, None] & columns[:, None, :]  # (W, k, k)
        num_valid = valid.sum(axis=(1, 2))  # (W,)
        outside = np.einsum("cij,xij->xc", negative.astype(int), (~valid).astype(int))  # (W, C)
        least = np.clip(-((-(thresholds[None].astype(int) + num_valid[:, None])) // 2), 0, num_valid[:, None] + 1)
        planes.append(_negated_digits(least + outside, layer.kernel_size, width, words))
    return planes


def _negated_digits(counts: np.ndarray, kernel_size: int, width: int, words: int) -> np.ndarray:
    """Whole numbers (W, C) as negated binary digits over channels: (digits, words, width)."""
    num_digits = {3: 4, 5: 5}.get(kernel_size, 7)  # as many as the kernel of this size compares
    size, channels = counts.shape
    digits = np.zeros((num_digits, width, words * WORD_BITS), bool)
    for digit in range(num_digits):
        digits[digit, :size, :channels] = (counts >> digit) & 1 == 0
    packed = np.packbits(digits, axis=2, bitorder="little").view(np.uint32)  # (digits, width, words)
    return np.ascontiguousarray(packed.transpose(0, 2, 1))
