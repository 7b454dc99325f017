"""Forward and backward of `binarization.fast_convolution.convolve` against `torch.nn.functional.conv2d`."""

import itertools
import statistics
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from benchmarks.tables import Rows, run_alone
from cpnas_cli.binarization.fast_convolution import convolve
from cpnas_cli.efficiency.timing import interleaved_seconds, paired_ratio

TITLE = "convolution, forward and backward"
IMAGES = ((64, 16, 32), (64, 32, 16), (64, 64, 8), (64, 16, 8), (64, 64, 2))  # batch, channels, size
GROUP_WIDTHS = (1, 16)  # depthwise, and that of the presets
FILTERS = ((1, 1, 1), (3, 1, 1), (5, 1, 1), (3, 2, 1), (5, 2, 1), (3, 2, 2), (5, 2, 2))  # size, dilation, stride


def forward_and_backward(
    convolution: Callable[..., torch.Tensor], x: torch.Tensor, w: torch.Tensor, **shape: int
) -> None:
    y = convolution(x, w, **shape)
    torch.autograd.grad(y, (x, w), torch.ones_like(y))


def tabulate(images: Sequence[tuple[int, int, int]] = IMAGES, *, repetitions: int) -> Rows:
    rows = []
    for batch, channels, size in images:
        for (kernel_size, dilation, stride), width in itertools.product(FILTERS, GROUP_WIDTHS):
            if kernel_size == 1 and width > 1:
                continue  # over all channels, whatever the groups
            groups = 1 if kernel_size == 1 else channels // width
            x = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last).requires_grad_()
            w = torch.randn(channels, channels // groups, kernel_size, kernel_size, requires_grad=True)
            shape = {
                "stride": stride,
                "padding": dilation * (kernel_size - 1) // 2,
                "dilation": dilation,
                "groups": groups,
            }
            seconds = interleaved_seconds(
                {
                    "torch": lambda x=x, w=w, shape=shape: forward_and_backward(F.conv2d, x, w, **shape),
                    "ours": lambda x=x, w=w, shape=shape: forward_and_backward(convolve, x, w, **shape),
                },
                repetitions=repetitions,
            )
            rows.append(
                {
                    "batch, channels, pixels": f"{batch}, {channels}, {size}",
                    "filter": f"{kernel_size}x{kernel_size} dilation {dilation} stride {stride}",
                    "in groups of": channels // groups,
                    "conv2d ms": 1000 * statistics.median(seconds["torch"]),
                    "convolve ms": 1000 * statistics.median(seconds["ours"]),
                    "conv2d / convolve": paired_ratio(seconds["torch"], seconds["ours"]).median,
                }
            )
    return rows


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=15)
