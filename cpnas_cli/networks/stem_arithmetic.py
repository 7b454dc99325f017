"""How a stem of int8 filters is computed in whole numbers: what a step of the values is that its convolutions read.

A normalized pixel x (mean 0, deviation 1) is round(64 x), about as fine as the pixel's own steps; a value between two
convolutions, after its ReLU, is round(32 x), up to 255 (a uint8). Both are cut off where a sum of products with
filters in [-127, 127] could leave the whole numbers that float32 holds exactly, 2^24; so the sums are exact in any
order, in float32 as in int32. All ours.
"""

from cpnas_cli.networks.layer import Layer

IMAGE_STEPS = 64
VALUE_STEPS = 32
_LARGEST_VALUE = 255
_LARGEST_FILTER = 127
_EXACT = 2**24 - 1


def largest_step(num_products: int, *, is_image: bool) -> int:
    """The largest whole number that a convolution of so many products per sum may read.

    Raises:
      ValueError: there is none, the convolution is too large.
    """
    largest = _EXACT // (_LARGEST_FILTER * num_products)
    if largest < 1:
        raise ValueError(f"a convolution of {num_products} products per sum has no exact sums in float32")
    return largest if is_image else min(largest, _LARGEST_VALUE)


def largest_step_of(layer: Layer, *, is_image: bool) -> int:
    """See `largest_step`."""
    return largest_step(layer.inputs_per_filter * layer.kernel_size**2, is_image=is_image)
