"""The plain CNN, as plain data: what an engineer would write first, and what a 1-bit network is held against.

Five 3x3 convolutions of w, 2w, 2w, 4w and 4w channels, each with batch norm and ReLU, the mean over the last map, and a
linear classifier. Images are halved until a side has at most 8 pixels: 28 -> 14 -> 7.
"""

from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import Surroundings

LARGEST_LAST_SIZE = 8
MULTIPLES = (1, 2, 2, 4, 4)
MOST_ABOVE = 1.1  # of the bytes asked for, where the nearest size is a larger one
HALVING_ORDER = (1, 3, 0, 2, 4)
"""Which convolution halves the image first: those that widen it, so that as little as possible is lost."""


def num_means(image_size: int) -> int:
    """How often images of more than 256 pixels are halved by 2x2 means before the first convolution."""
    return max(_num_halvings(image_size) - len(MULTIPLES), 0)


def _num_halvings(size: int) -> int:
    count = 0
    while size > LARGEST_LAST_SIZE:
        size, count = -(-size // 2), count + 1
    return count


def plain_cnn_layers(width: int, shape: Surroundings) -> list[Layer]:
    """The five convolutions and the classifier.

    Args:
      width: w, channels of the first convolution.

    Raises:
      ValueError: w is not at least 1.
    """
    if width < 1:
        raise ValueError(f"a plain CNN has at least 1 channel, got {width}")
    halving = set(HALVING_ORDER[: _num_halvings(shape.image_size)])
    channels, size = shape.num_image_channels, shape.image_size // 2 ** num_means(shape.image_size)
    layers = []
    for index, multiple in enumerate(MULTIPLES):
        stride = 2 if index in halving else 1
        out_size = -(-size // stride)
        name = f"convolutions.{index}"
        layers.append(
            Layer(name, "convolution", channels, width * multiple, size, out_size, kernel_size=3, stride=stride)
        )
        channels, size = width * multiple, out_size
    return [*layers, Layer("classifier", "linear", channels, shape.num_classes, 1, 1, ending="bias")]


def int8_size_bytes(layers: list[Layer]) -> int:
    """Of float layers quantized to int8: 1 byte per weight, 4 per bias and 4 per scale; both are per output channel.

    A batch norm is folded into weights and bias; the few scales of activations, one per layer, do not count.
    """
    return sum(layer.num_weights + 8 * layer.out_channels for layer in layers)


def plain_cnn_size_bytes(width: int, shape: Surroundings) -> int:
    """See `int8_size_bytes`; `plain_cnn_width` of it is the width."""
    return int8_size_bytes(plain_cnn_layers(width, shape))


def plain_cnn_width(num_bytes: int, shape: Surroundings) -> int:
    """The w of the plain CNN whose int8 size is nearest to so many bytes, and above by a tenth at most; at least 1.

    Args:
      num_bytes: see `int8_size_bytes`.
    """

    def size(width: int) -> int:
        return plain_cnn_size_bytes(width, shape)

    above = 1
    while size(above) < num_bytes:
        above *= 2
    below = max(above // 2, 1)
    while above - below > 1:
        middle = (above + below) // 2
        below, above = (middle, above) if size(middle) < num_bytes else (below, middle)
    is_near = size(above) - num_bytes < num_bytes - size(below) and size(above) <= MOST_ABOVE * num_bytes
    return above if is_near else below
