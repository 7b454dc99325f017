"""How weights lie in the constants of the C source.

A block is as many output channels as a vector has lanes: their filters are compared with what they read at once.
"""

import numpy as np

from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import stem_layers
from cpnas_cli.networks.stem_arithmetic import IMAGE_STEPS, largest_step_of

_WORD_BITS = 32


def num_words(bits: int) -> int:
    return -(-bits // _WORD_BITS)


def num_lanes(model: PackedModel) -> int:
    """Channels of a block: those that leave no lane unused, or few."""
    channels = _divided_channels(model)
    return next((lanes for lanes in (16, 8) if channels % lanes == 0), 8 if channels > 8 else 4)


def _divided_channels(model: PackedModel) -> int:
    """The output channels that are divided into blocks: those of a group, or of a cell."""
    channels = model.settings.num_channels
    return min(model.settings.group_width, channels) if model.settings.block == "residual" else channels


def padded(values: np.ndarray, model: PackedModel) -> np.ndarray:
    """A value per channel, float32, with room behind the last for a whole block that begins at any channel."""
    lanes = num_lanes(model)
    is_full = len(values) % lanes == 0 and _divided_channels(model) % lanes == 0
    return np.pad(values.astype(np.float32), (0, 0 if is_full else lanes))


def words_of_filters(bits: np.ndarray, lanes: int) -> np.ndarray:
    """Filters of 1-bit weights as words.

    Args:
      bits: bool, (groups, filters of a group, inputs of a filter).

    Returns:
      uint32, (groups, blocks, words, lanes); no bits behind the last input or filter are set.
    """
    groups, filters, inputs = bits.shape
    full = np.zeros((groups, -(-filters // lanes) * lanes, num_words(inputs) * _WORD_BITS), bool)
    full[:, :filters, :inputs] = bits
    words = np.packbits(full, axis=2, bitorder="little").view("<u4").astype(np.uint32)
    return words.reshape(groups, -1, lanes, words.shape[2]).transpose(0, 1, 3, 2)


def tail_of(inputs: int) -> int:
    """How many bits each nibble of the last word holds, which a popcount is spared so: 1 or 2; 0: as they come."""
    rest = inputs % _WORD_BITS
    return 1 if 0 < rest <= 8 else 2 if 0 < rest <= 16 else 0


def with_tail(bits: np.ndarray) -> np.ndarray:
    """Filters bool (..., inputs) with the bits of the last word spread over its nibbles: (..., whole words)."""
    inputs = bits.shape[-1]
    tail, full = tail_of(inputs), inputs // _WORD_BITS * _WORD_BITS
    if tail == 0:
        return bits
    spread = np.zeros((*bits.shape[:-1], full + _WORD_BITS), bool)
    spread[..., :full] = bits[..., :full]
    rest = np.arange(inputs - full)
    spread[..., full + rest // tail * 4 + rest % tail] = bits[..., full:]
    return spread


def blocks_of_filters(weights: np.ndarray, lanes: int) -> np.ndarray:
    """(C_out, C_in, k, k) -> float32 (blocks, taps, lanes), of a tap its input channels side by side."""
    out_channels = weights.shape[0]
    taps = weights.transpose(0, 2, 3, 1).reshape(out_channels, -1)
    full = np.zeros((-(-out_channels // lanes) * lanes, taps.shape[1]), np.float32)
    full[:out_channels] = taps
    return full.reshape(-1, lanes, taps.shape[1]).transpose(0, 2, 1)


def meaning_of_bytes(model: PackedModel) -> np.ndarray:
    """What the stem reads, by channel and byte, with the roundings of `batches.Pipeline`: (C, 256).

    Whole steps as int16 where its filters are whole numbers, else float32.
    """
    pixels = np.arange(256, dtype=np.float32) / np.float32(255)
    mean = np.array(model.mean, np.float32)[:, None]
    scale = np.float32(1) / np.array(model.std, np.float32)[:, None]
    normalized = (pixels - mean) * scale
    if model.settings.weight_format != "int8":
        return normalized
    first = stem_layers(model.settings, model.surroundings, precision="binary")[0]
    largest = largest_step_of(first, is_image=True)
    return np.clip(np.rint(normalized * np.float32(IMAGE_STEPS)), -largest, largest).astype(np.int16)


def depthwise_taps(signs: np.ndarray) -> np.ndarray:
    """Negated signs of depthwise filters, bool (C, 1, k, k), as uint32 (k * k, words): 1 where a sign of 0 agrees."""
    channels = signs.shape[0]
    return _channel_words(~signs.reshape(channels, -1).T)


def depthwise_thresholds(layer: Layer, thresholds: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The least counts of agreeing taps, as negated binary digits over channels.

    The sum n of v valid taps is 2 a - v for a agreeing ones, so n >= t where a >= (t + v) / 2.

    Returns:
      How many digits; uint8 (k * k + 1,), for each v the number of its counts; uint32 (numbers, digits, words).
    """
    by_position = [_num_valid(layer, position) for position in range(layer.out_size)]
    valid = sorted({rows * columns for rows in by_position for columns in by_position} | {layer.kernel_size**2})
    num_digits = (layer.kernel_size**2 + 1).bit_length()
    which = np.zeros(layer.kernel_size**2 + 1, np.uint8)
    planes = list[np.ndarray]()
    for index, count in enumerate(valid):
        which[count] = index
        least = np.clip(-((-(thresholds.astype(int) + count)) // 2), 0, count + 1)  # (C,)
        planes.append(_channel_words((least[None] >> np.arange(num_digits)[:, None]) & 1 == 0))
    return num_digits, which, np.stack(planes)


def _num_valid(layer: Layer, position: int) -> int:
    """How many taps of a row or column of the filter lie inside the image, for a row or column of results."""
    first = position * layer.stride - layer.padding
    return sum(0 <= first + tap * layer.dilation < layer.in_size for tap in range(layer.kernel_size))


def _channel_words(bits: np.ndarray) -> np.ndarray:
    """bool (n, C) -> uint32 (n, words)."""
    return words_of_filters(bits[:, None, :], 1)[:, 0, :, 0]
