"""A training step of the Child against one of its Parent: the same architecture, batch and images.

A step is forward, loss, backward, clipping and optimizer, as in a training. The bound to hold on a
CPU is a ratio of 1.3.
"""

import functools
import statistics

import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved_seconds, median_ratio, parse_arguments, report
from cpnas_cli.config import NetworkConfig
from cpnas_cli.losses import kernel_loss
from cpnas_cli.networks import Network, build_network
from cpnas_cli.operations import Precision
from cpnas_cli.space import Genotype, draw_uniform
from cpnas_cli.training import make_optimizer

SEPARABLE = Genotype(
    normal=("sep_conv_3x3", "dil_conv_5x5") * 7,
    reduce=("sep_conv_5x5", "dil_conv_3x3") * 7,
)
GENOTYPES = {
    "random, seed 0": draw_uniform(seed=0),
    "random, seed 1": draw_uniform(seed=1),
    "all convolutions": SEPARABLE,
}
# cells, channels, image size, batch size
SHAPES = ((8, 16, 32, 64), (5, 16, 16, 64), (3, 16, 8, 64))


def step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    images_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
    *,
    with_kernel_loss: bool,
) -> None:
    loss = F.cross_entropy(network(images_BCHW).logits, labels_B)
    if with_kernel_loss:
        loss = loss + 0.001 * kernel_loss(network.latent_filters())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()


def measure(
    genotype: Genotype, shape: tuple[int, int, int, int], repetitions: int
) -> tuple[float, float, float, float]:
    """Median milliseconds of the Parent's step, ratio of the Child's to it, without and with the kernel loss."""
    num_cells, num_channels, image_size, batch_size = shape
    images = torch.randn(batch_size, 3, image_size, image_size)
    labels = torch.randint(10, (batch_size,))
    settings = NetworkConfig(num_cells=num_cells, num_channels=num_channels)

    def make_step(precision: Precision, *, with_kernel_loss: bool) -> functools.partial[None]:
        network = build_network(
            settings, precision=precision, num_image_channels=3, num_classes=10, seed=0, genotype=genotype
        )
        optimizer = make_optimizer(
            "adam", list(network.parameters()), learning_rate=1e-3, momentum=0.0, weight_decay=0.0
        )
        return functools.partial(step, network, optimizer, images, labels, with_kernel_loss=with_kernel_loss)

    seconds = interleaved_seconds(
        {
            "parent": make_step("full", with_kernel_loss=False),
            "child": make_step("binary", with_kernel_loss=False),
            "child with kernel loss": make_step("binary", with_kernel_loss=True),
        },
        repetitions=repetitions,
    )
    return (
        1000 * statistics.median(seconds["parent"]),
        1000 * statistics.median(seconds["child"]),
        median_ratio(seconds["child"], seconds["parent"]),
        median_ratio(seconds["child with kernel loss"], seconds["parent"]),
    )


def main() -> None:
    arguments = parse_arguments(__doc__, repetitions=9)
    rows = []
    for shape in SHAPES:
        for name, genotype in GENOTYPES.items():
            parent, child, ratio, ratio_with_kernel = measure(genotype, shape, arguments.repetitions)
            rows.append(
                {
                    "cells, channels, pixels, batch": "{}, {}, {}, {}".format(*shape),
                    "genotype": name,
                    "Parent ms": parent,
                    "Child ms": child,
                    "Child / Parent": ratio,
                    "with kernel loss": ratio_with_kernel,
                }
            )
    report("training step, Child against Parent", rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
