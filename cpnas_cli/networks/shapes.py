"""The stack of cells that a network is: channels, sizes and strides of its parts, without any weights."""

from typing import Literal, NamedTuple

from cpnas_cli.search_space import NUM_INPUT_NODES, NUM_INTERMEDIATE_NODES
from cpnas_cli.settings import NetworkConfig

Precision = Literal["binary", "full"]
NetworkName = Literal["child", "parent", "baseline"]
"""What a training trains: the two networks of a genotype, and the plain CNN that they are held against."""

PRECISIONS: dict[NetworkName, Precision] = {"child": "binary", "parent": "full"}
"""Of the networks of a genotype."""


class CellShape(NamedTuple):
    """What a cell needs to know of its place in the stack; `num_channels` is that of one of its nodes."""

    in_channels: tuple[int, int]
    num_channels: int
    reduces: bool
    previous_reduces: bool

    @property
    def kind(self) -> str:
        return "reduce" if self.reduces else "normal"

    def stride(self, source: int) -> int:
        """Of an edge that leaves this node: 2 from the input nodes of a reduction cell."""
        return 2 if self.reduces and source < NUM_INPUT_NODES else 1

    def halves_input(self, index: int) -> bool:
        """Whether an input comes from before the reduction and its image must shrink to that of the other input."""
        return index == 0 and self.previous_reduces


def reduction_cells(num_cells: int) -> tuple[int, int]:
    """Indices of the two reduction cells: at one third and two thirds of the depth."""
    return num_cells // 3, 2 * num_cells // 3


def cell_shapes(settings: NetworkConfig) -> list[CellShape]:
    """The cells of a network from first to last; the two reduction cells double the channels."""
    shapes: list[CellShape] = []
    in_channels = (num_stem_channels(settings), num_stem_channels(settings))
    num_channels, previous_reduces = settings.num_channels, False
    for index in range(settings.num_cells):
        reduces = index in reduction_cells(settings.num_cells)
        num_channels *= 2 if reduces else 1
        shapes.append(CellShape(in_channels, num_channels, reduces, previous_reduces))
        in_channels = (in_channels[1], NUM_INTERMEDIATE_NODES * num_channels)
        previous_reduces = reduces
    return shapes


def has_shortcut(in_channels: int, out_channels: int) -> bool:
    """Whether a shortcut can lead around a preprocessing: its input's channels divide into groups of the output's."""
    return in_channels % out_channels == 0


def num_stem_channels(settings: NetworkConfig) -> int:
    return settings.stem_multiplier * settings.num_channels


def stem_kernel_size(settings: NetworkConfig) -> int:
    """3; of one convolution of stride 4, 7, so that no pixel is skipped."""
    return 3 if settings.stem_convolutions > 1 else max(3, 2 * settings.stem_stride - 1)


def stem_shapes(settings: NetworkConfig) -> list[tuple[int, int]]:
    """(channels, stride) of every convolution of the stem: half of the channels before the last one (ours); the last
    ones halve the image, so that the first see every pixel.
    """
    channels, count = num_stem_channels(settings), settings.stem_convolutions
    if count == 1:
        return [(channels, settings.stem_stride)]
    num_halvings = settings.stem_stride.bit_length() - 1
    strides = [2 if index >= count - num_halvings else 1 for index in range(count)]
    return [(channels if index == count - 1 else channels // 2, stride) for index, stride in enumerate(strides)]
