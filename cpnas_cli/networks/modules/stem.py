"""The stem: the real convolutions that read the image."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.networks.modules.batch_norm import BatchNorm, normalized
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.stored import FLOAT32, INT8
from cpnas_cli.networks.shapes import stem_kernel_size, stem_shapes
from cpnas_cli.networks.stem_arithmetic import IMAGE_STEPS, VALUE_STEPS, largest_step
from cpnas_cli.settings import NetworkConfig


class Stem(nn.Sequential):
    """Convolutions with batch norm, a ReLU between them: (B, C, S, S) -> (B, stem channels, S / stride, S / stride).

    With `exact_evaluation` and filters in int8 every convolution is one of whole numbers in evaluation mode: what it
    reads is rounded to whole steps (see `stem_arithmetic`), so that its sums are exact in any order.
    """

    weight_format = FLOAT32
    exact_evaluation = False

    def __init__(self, settings: NetworkConfig, *, num_image_channels: int) -> None:
        kernel_size, channels = stem_kernel_size(settings), num_image_channels
        parts, largest_steps = list[nn.Module](), list[int]()
        for index, (out_channels, stride) in enumerate(stem_shapes(settings)):
            convolution = RealConv2d(channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2)
            if settings.weight_format == INT8:
                convolution.input_steps = VALUE_STEPS if index else IMAGE_STEPS
            largest_steps.append(largest_step(convolution.fan_in, is_image=index == 0))
            parts += [convolution, BatchNorm(out_channels)]
            channels = out_channels
        super().__init__(*parts)
        self.largest_steps = largest_steps

    def pairs(self) -> list[tuple[RealConv2d, BatchNorm]]:
        """The convolutions, each with its batch norm."""
        pairs = list[tuple[RealConv2d, BatchNorm]]()
        for convolution, norm in self._in_pairs():
            assert isinstance(convolution, RealConv2d)
            assert isinstance(norm, BatchNorm)
            pairs.append((convolution, norm))
        return pairs

    def _in_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """An export puts other modules into the places."""
        modules = list(self)  # a slice would be a stem of its own
        return zip(modules[::2], modules[1::2], strict=True)

    def forward(self, input: Tensor) -> Tensor:  # as nn.Sequential names it
        x_BCHW = input
        is_whole = self.exact_evaluation and not self.training and self.weight_format == INT8
        for index, (convolution, norm) in enumerate(self._in_pairs()):
            if index:
                x_BCHW = F.relu(x_BCHW)
            if is_whole:
                largest = self.largest_steps[index]
                steps = VALUE_STEPS if index else IMAGE_STEPS
                x_BCHW = torch.round(x_BCHW * steps).clamp(-largest, largest)
            x_BCHW = normalized([convolution], norm, [x_BCHW])
        return x_BCHW
