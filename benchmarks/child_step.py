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
from cpnas_cli.epoch import make_optimizer
from cpnas_cli.losses import ClassMeans, compactness_loss, kernel_loss
from cpnas_cli.networks import Network, build_network
from cpnas_cli.operations import Precision
from cpnas_cli.space import Genotype, draw_uniform

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
    class_means: ClassMeans | None,
    images_BCHW: torch.Tensor,
    labels_B: torch.Tensor,
) -> None:
    """One training step; with class means, with both terms of (4.17)."""
    output = network(images_BCHW)
    loss = F.cross_entropy(output.logits, labels_B)
    if class_means is not None:
        loss = loss + 1e-3 * kernel_loss(network.latent_filters())
        loss = loss + 1e-5 * compactness_loss(output.features, class_means.means, labels_B)
        class_means.update(output.features, labels_B)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()


def measure(genotype: Genotype, shape: tuple[int, int, int, int], repetitions: int) -> dict[str, float]:
    """Medians of both steps, and the ratio of the Child's to the Parent's, without and with (4.17)."""
    num_cells, num_channels, image_size, batch_size = shape
    images = torch.randn(batch_size, 3, image_size, image_size)
    labels = torch.randint(10, (batch_size,))
    settings = NetworkConfig(num_cells=num_cells, num_channels=num_channels)

    def make_step(precision: Precision, *, child_parent_loss: bool) -> functools.partial[None]:
        network = build_network(
            settings, precision=precision, num_image_channels=3, num_classes=10, seed=0, genotype=genotype
        )
        optimizer = make_optimizer(
            "adam", list(network.parameters()), learning_rate=1e-3, momentum=0.0, weight_decay=0.0
        )
        class_means = ClassMeans(10, network.feature_shape(image_size), rate=0.5) if child_parent_loss else None
        return functools.partial(step, network, optimizer, class_means, images, labels)

    seconds = interleaved_seconds(
        {
            "parent": make_step("full", child_parent_loss=False),
            "child": make_step("binary", child_parent_loss=False),
            "child with its loss": make_step("binary", child_parent_loss=True),
        },
        repetitions=repetitions,
    )
    return {
        "Parent ms": 1000 * statistics.median(seconds["parent"]),
        "Child ms": 1000 * statistics.median(seconds["child"]),
        "Child / Parent": median_ratio(seconds["child"], seconds["parent"]),
        "with (4.17)": median_ratio(seconds["child with its loss"], seconds["parent"]),
    }


def main() -> None:
    arguments = parse_arguments(__doc__, repetitions=9)
    rows = []
    for shape in SHAPES:
        for name, genotype in GENOTYPES.items():
            rows.append(
                {
                    "cells, channels, pixels, batch": "{}, {}, {}, {}".format(*shape),
                    "genotype": name,
                    **measure(genotype, shape, arguments.repetitions),
                }
            )
    report("training step, Child against Parent", rows, as_json=arguments.json)


if __name__ == "__main__":
    main()
