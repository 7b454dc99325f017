"""The plain CNN with its weights, see `networks.plain_cnn`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.network import Output
from cpnas_cli.networks.plain_cnn import num_means, plain_cnn_layers
from cpnas_cli.networks.shapes import Precision
from cpnas_cli.randomness import derived_seed


class PlainCnn(nn.Module):
    """Forward: images (B, C, S, S) -> scores, and the last map (B, 4w, H, W).

    Args:
      width: w, channels of the first convolution.
    """

    precision: Precision = "full"

    def __init__(self, width: int, shape: Surroundings) -> None:
        super().__init__()
        self.width, self.shape = width, shape
        *convolutions, classifier = self.layers()
        self.shrinks = 2 ** num_means(shape.image_size)
        modules: list[nn.Module] = []
        for layer in convolutions:
            shape_of = {"stride": layer.stride, "padding": layer.padding}
            modules += [
                RealConv2d(layer.in_channels, layer.out_channels, layer.kernel_size, **shape_of),
                BatchNorm(layer.out_channels),
            ]
        self.convolutions = nn.ModuleList(modules)  # each with the batch norm behind it
        self.classifier = nn.Linear(classifier.in_channels, classifier.out_channels)

    def forward(self, images_BCHW: Tensor) -> Output:
        x_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        if self.shrinks > 1:
            x_BCHW = F.avg_pool2d(x_BCHW, self.shrinks)
        for convolution, norm in zip(self.convolutions[::2], self.convolutions[1::2], strict=True):
            x_BCHW = F.relu(norm(convolution(x_BCHW)))
        return Output(self.classifier(x_BCHW.mean(dim=(2, 3))), x_BCHW)

    def layers(self) -> list[Layer]:
        """As plain data."""
        return plain_cnn_layers(self.width, self.shape)

    def set_progress(self, fraction: float) -> None:
        """As a `Network`, which has signs that change with it; this one has none."""
        del fraction


def build_plain_cnn(width: int, shape: Surroundings, *, seed: int) -> PlainCnn:
    """Freshly initialised; the weights depend on (seed, width) only, the CPU's global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "baseline weights"))
        return PlainCnn(width, shape).to(memory_format=torch.channels_last)
