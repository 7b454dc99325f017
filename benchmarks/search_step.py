"""A search step of CP-NAS (Child and Parent) against one of PC-DARTS (weights and architecture).

The same cells, channels, batch and images; PC-DARTS over the operations of the 1-bit Child. A step of
CP-NAS trains one drawn architecture; which one matters, so that the draws of a whole pass are timed in
turn and their mean is taken. The bound to hold is half.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle

import torch
import torch.nn.functional as F

from benchmarks.child_step import Batch, noise_batch, update
from benchmarks.timing import Rows, interleaved_seconds, median_ratio, parse_arguments, report
from benchmarks.workload import SHAPES, Shape
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.search_space import ALL_CANDIDATES, Genotype, draw_pass
from cpnas_cli.settings import NetworkConfig, PcDartsConfig
from cpnas_cli.strategies.pcdarts.mixed_network import ArchitectureParameters, build_mixed_network
from cpnas_cli.training.epoch import make_optimizer

TITLE = "search step, CP-NAS against PC-DARTS"


def cpnas_step(networks: list[Network], genotypes: Iterator[Genotype], batch: Batch) -> None:
    """One step of the drawn Child and one of the drawn Parent."""
    genotype = next(genotypes)
    for network in networks:
        parameters = network.parameters_of(genotype)
        optimizer = make_optimizer("adam", parameters, learning_rate=1e-3, momentum=0.9, weight_decay=0.0)
        update(F.cross_entropy(network(batch[0], genotype).logits, batch[1]), parameters, optimizer)


def pcdarts_step(settings: NetworkConfig, batch: Batch, *, device: str = "cpu") -> Callable[[], None]:
    """One step of the architecture parameters and one of the weights."""
    network = build_mixed_network(settings, partial_channels=4, num_image_channels=3, num_classes=10, seed=0).to(device)
    architecture = ArchitectureParameters(seed=0).to(device)
    published = PcDartsConfig()
    weights, alphas = network.trained_parameters(), list(architecture.parameters())
    optimizer = make_optimizer("sgd", weights, learning_rate=0.1, momentum=0.9, weight_decay=3e-4)
    adam = torch.optim.Adam(alphas, lr=published.architecture_learning_rate, betas=(0.5, 0.999), fused=True)

    def step() -> None:
        architecture.requires_grad_(True)
        loss = F.cross_entropy(network(batch[0], architecture).logits, batch[1])
        for parameter, gradient in zip(alphas, torch.autograd.grad(loss, alphas), strict=True):
            parameter.grad = gradient
        adam.step()
        architecture.requires_grad_(False)
        update(F.cross_entropy(network(batch[0], architecture).logits, batch[1]), weights, optimizer)

    return step


def measure(shape: Shape, repetitions: int, *, warmup: int = 3) -> dict[str, float]:
    batch = noise_batch(shape)
    settings = NetworkConfig(num_cells=shape.num_cells, num_channels=shape.num_channels)
    networks = [
        build_network(settings, precision=precision, num_image_channels=3, num_classes=10, seed=0)
        for precision in ("binary", "full")
    ]
    genotypes = cycle(draw_pass(ALL_CANDIDATES, seed=0, pass_index=0))
    seconds = interleaved_seconds(
        {"cpnas": lambda: cpnas_step(networks, genotypes, batch), "pcdarts": pcdarts_step(settings, batch)},
        repetitions=repetitions,
        warmup=warmup,
    )
    return {
        "CP-NAS step ms": 1000 * statistics.fmean(seconds["cpnas"]),
        "PC-DARTS step ms": 1000 * statistics.fmean(seconds["pcdarts"]),
        "median ratio": median_ratio(seconds["cpnas"], seconds["pcdarts"]),
        "ratio of means": statistics.fmean(seconds["cpnas"]) / statistics.fmean(seconds["pcdarts"]),
    }


def tabulate(shapes: Sequence[Shape] = SHAPES, *, repetitions: int, warmup: int = 3) -> Rows:
    return [{**shape.column(), **measure(shape, repetitions, warmup=warmup)} for shape in shapes]


def main() -> None:
    arguments = parse_arguments(__doc__, repetitions=8)
    report(TITLE, tabulate(repetitions=arguments.repetitions), as_json=arguments.json)


if __name__ == "__main__":
    main()
