"""The auxiliary head: a second classifier, half-way through the network, that only the training has."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.randomness import derived_seed

_CHANNELS = (128, 768)  # of its two convolutions


class AuxiliaryHead(nn.Module):
    """ReLU, mean pooling to 2x2 pixels, 1x1 convolution, batch norm, ReLU, 2x2 convolution, batch norm, ReLU, linear.

    Forward: (B, C, H, H) -> (B, classes).

    Source: `AuxiliaryHeadCIFAR` of DARTS, arXiv 1806.09055, which pools 8x8 pixels with windows of 5 at stride 3. Ours:
    windows of about 5/8 of any map, so that two of them, overlapping, cover it; of one pixel nothing is pooled.

    Args:
      size: H, pixels.
    """

    def __init__(self, num_channels: int, num_classes: int, *, size: int) -> None:
        super().__init__()
        self.window, self.stride = pooling_window(size)
        middle, last = _CHANNELS
        self.reduce, self.norm = RealConv2d(num_channels, middle, 1), BatchNorm(middle)
        self.convolution, self.last_norm = RealConv2d(middle, last, min(size, 2)), BatchNorm(last)
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = F.avg_pool2d(F.relu(x_BCHW), self.window, self.stride)
        x_BCHW = F.relu(self.norm(self.reduce(x_BCHW)))
        return self.classifier(F.relu(self.last_norm(self.convolution(x_BCHW))).flatten(1))


def pooling_window(size: int) -> tuple[int, int]:
    """(side, stride) of the windows that pool a map of this size to 2x2 pixels; of 8 pixels (5, 3), as DARTS has it."""
    if size == 1:
        return 1, 1
    window = min(-(-5 * size // 8), size - 1)
    return window, size - window


def build_auxiliary_head(num_channels: int, num_classes: int, *, size: int, seed: int, purpose: str) -> AuxiliaryHead:
    """A freshly initialised head; its weights depend on (seed, purpose). The global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, purpose))
        head = AuxiliaryHead(num_channels, num_classes, size=size)
    return head.to(memory_format=torch.channels_last)
