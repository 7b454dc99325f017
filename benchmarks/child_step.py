"""A training step of the Child against one of its Parent: the same architecture, batch and images.

A step is forward, loss, backward, clipping and optimizer, as in a training. The bound to hold on a
CPU is a ratio of 1.3.
"""

import functools
import statistics
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Rows, interleaved_seconds, median_ratio, parse_arguments, report
from benchmarks.workload import SHAPES, Shape
from cpnas_cli.binarization.filters import reconstruction
from cpnas_cli.losses import ClassMeans, compactness_loss, kernel_loss
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.operations import Precision
from cpnas_cli.search_space import Genotype, draw_uniform
from cpnas_cli.settings import NetworkConfig
from cpnas_cli.training.epoch import make_optimizer

TITLE = "training step, Child against Parent"
SEPARABLE = Genotype(
    normal=("sep_conv_3x3", "dil_conv_5x5") * 7,
    reduce=("sep_conv_5x5", "dil_conv_3x3") * 7,
)
GENOTYPES = {
    "random, seed 0": draw_uniform(seed=0),
    "random, seed 1": draw_uniform(seed=1),
    "all convolutions": SEPARABLE,
}
Batch = tuple[Tensor, Tensor]


def noise_batch(shape: Shape, *, device: str = "cpu") -> Batch:
    images = torch.randn(shape.batch_size, 3, shape.image_size, shape.image_size, device=device)
    return images, torch.randint(10, (shape.batch_size,), device=device)


def update(loss: Tensor, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Backward, clipping and optimizer."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 5.0)
    optimizer.step()


def step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    class_means: ClassMeans | None,
    images_BCHW: Tensor,
    labels_B: Tensor,
) -> None:
    """One training step; with class means, with both terms of (4.17)."""
    output = network(images_BCHW)
    loss = F.cross_entropy(output.logits, labels_B)
    if class_means is not None:
        loss = loss + 1e-3 * kernel_loss(network.latent_filters(), reconstruct=reconstruction)
        loss = loss + 1e-5 * compactness_loss(output.features, class_means.means, labels_B)
        class_means.update(output.features, labels_B)
    update(loss, list(network.parameters()), optimizer)


def make_step(
    genotype: Genotype, shape: Shape, precision: Precision, batch: Batch, *, child_parent_loss: bool = False
) -> functools.partial[None]:
    """The step of a freshly initialised network."""
    settings = NetworkConfig(num_cells=shape.num_cells, num_channels=shape.num_channels)
    network = build_network(
        settings, precision=precision, num_image_channels=3, num_classes=10, seed=0, genotype=genotype
    )
    optimizer = make_optimizer("adam", list(network.parameters()), learning_rate=1e-3, momentum=0.0, weight_decay=0.0)
    class_means = ClassMeans(10, network.feature_shape(shape.image_size), rate=0.5) if child_parent_loss else None
    return functools.partial(step, network, optimizer, class_means, *batch)


def measure(genotype: Genotype, shape: Shape, repetitions: int, *, warmup: int = 3) -> dict[str, float]:
    """Medians of both steps, and the ratio of the Child's to the Parent's, without and with (4.17)."""
    batch = noise_batch(shape)
    seconds = interleaved_seconds(
        {
            "parent": make_step(genotype, shape, "full", batch),
            "child": make_step(genotype, shape, "binary", batch),
            "child with its loss": make_step(genotype, shape, "binary", batch, child_parent_loss=True),
        },
        repetitions=repetitions,
        warmup=warmup,
    )
    return {
        "Parent ms": 1000 * statistics.median(seconds["parent"]),
        "Child ms": 1000 * statistics.median(seconds["child"]),
        "Child / Parent": median_ratio(seconds["child"], seconds["parent"]),
        "with (4.17)": median_ratio(seconds["child with its loss"], seconds["parent"]),
    }


def tabulate(shapes: Sequence[Shape] = SHAPES, *, repetitions: int, warmup: int = 3) -> Rows:
    return [
        {**shape.column(), "genotype": name, **measure(genotype, shape, repetitions, warmup=warmup)}
        for shape in shapes
        for name, genotype in GENOTYPES.items()
    ]


def main() -> None:
    arguments = parse_arguments(__doc__, repetitions=9)
    report(TITLE, tabulate(repetitions=arguments.repetitions), as_json=arguments.json)


if __name__ == "__main__":
    main()
