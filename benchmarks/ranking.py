"""Does the indicator rank architectures as their full training does? Brute force on a space of 16.

All edges are fixed but one per cell, which has 4 candidates: 16 architectures. A shortened Algorithm 9
draws them without replacement and gives every candidate its mean indicator; an architecture's score
is the sum of e, (4.16), over its two free edges. All 16 are then trained in full, and Kendall's tau-b
compares scores and test accuracies.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import kendalltau

from benchmarks import held_out
from benchmarks.training_step import NOWHERE
from cpnas_cli.data.dataset import Dataset, load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.networks.shapes import PRECISIONS
from cpnas_cli.randomness import python_generator, shuffled
from cpnas_cli.search_space import CELL_KINDS, EDGES, NONE, CellGenotype, Genotype
from cpnas_cli.settings import Config, load_config
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.indicator import evaluate_operations, indicator, mean_indicator
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks

CANDIDATES = (NONE, "skip_connect", "max_pool_3x3", "sep_conv_3x3")
FREE_EDGE = (0, 2)
FIXED = {(1, 3): "sep_conv_3x3", (2, 4): "sep_conv_3x3", (3, 5): "dil_conv_3x3"}
BETAS = (0.0, 1.0, 2.0, 5.0)


def architecture(normal: str, reduce: str) -> Genotype:
    """The architecture with these operations on the free edges."""

    def cell(op: str) -> CellGenotype:
        return tuple(op if edge == FREE_EDGE else FIXED.get(edge, NONE) for edge in EDGES)

    return Genotype(normal=cell(normal), reduce=cell(reduce))


def sample(config: Config, dataset: Dataset, *, num_passes: int) -> list[dict[str, Any]]:
    """One record per draw: the operations drawn and both accuracies."""
    shared = SharedNetworks(Search(NOWHERE, config, dataset, open_device("cpu")))
    records: list[dict[str, Any]] = []
    for pass_index in range(num_passes):
        generator = python_generator(config.seed, "ranking", pass_index)
        orders = [shuffled(CANDIDATES, generator) for _ in CELL_KINDS]
        for ops in zip(*orders, strict=True):
            genotype = architecture(*ops)
            accuracies = {
                f"accuracy_{name}": shared.train_and_validate(name, genotype, draw=len(records)).accuracy
                for name in PRECISIONS
            }
            records.append({"ops": ops, **accuracies})
    return records


def scores(records: list[dict[str, Any]], *, beta_p: float) -> dict[tuple[str, str], float]:
    """The sum of e over both free edges, for each of the 16 architectures."""
    evaluations = []
    for place in range(len(CELL_KINDS)):
        given: dict[str, list[float]] = {op: [] for op in CANDIDATES}
        for record in records:
            z = indicator(
                accuracy_child=record["accuracy_child"],
                accuracy_parent=record["accuracy_parent"],
                beta_p=beta_p,
                name="printed",
            )
            given[record["ops"][place]].append(z)
        evaluations.append(evaluate_operations({op: mean_indicator(values) for op, values in given.items()}))
    return {
        (normal, reduce): evaluations[0][normal] + evaluations[1][reduce]
        for normal, reduce in itertools.product(CANDIDATES, repeat=2)
    }


def train(config: Config, dataset: Dataset, genotype: Genotype) -> float:
    """Test accuracy of the fully trained Child."""
    return held_out.train(config, dataset, genotype).result["accuracy_test"]


def _tau(first: Sequence[float], second: Sequence[float]) -> float:
    answer: Any = kendalltau(first, second)
    return float(answer.statistic)


def rank(*, seeds: list[int], num_passes: int, overrides: list[str]) -> dict[str, Any]:
    """Accuracies of all 16 (mean over the seeds), and per beta_P tau of every seed's scores with them."""
    configs = [load_config(overrides=[*overrides, f"seed={seed}"]) for seed in seeds]
    dataset = load_dataset(configs[0].data)
    every = [(normal, reduce) for normal in CANDIDATES for reduce in CANDIDATES]
    accuracies = {ops: [train(config, dataset, architecture(*ops)) for config in configs] for ops in every}
    means = [statistics.fmean(accuracies[ops]) for ops in every]
    samples = [sample(config, dataset, num_passes=num_passes) for config in configs]
    taus = {}
    for beta_p in BETAS:
        by_seed = [scores(records, beta_p=beta_p) for records in samples]
        taus[f"{beta_p:g}"] = [_tau([one[ops] for ops in every], means) for one in by_seed]
    pairs = itertools.combinations(zip(*(accuracies[ops] for ops in every), strict=True), 2)
    return {
        "seeds": seeds,
        "num_passes": num_passes,
        "accuracy_test": {"/".join(ops): accuracies[ops] for ops in every},
        "tau": taus,
        "tau_between_trainings": [_tau(a, b) for a, b in pairs],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--passes", type=int, default=3, help="T: each takes 4 draws")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    seeds = [int(word) for word in arguments.seeds.split(",")]
    print(json.dumps(rank(seeds=seeds, num_passes=arguments.passes, overrides=arguments.set), indent=2))


if __name__ == "__main__":
    main()
