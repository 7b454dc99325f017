"""A search step of CP-NAS (Child and Parent) against one of PC-DARTS (weights and architecture).

The same cells, channels, batch and images; PC-DARTS over the operations of the 1-bit Child. A step of
CP-NAS trains one drawn architecture; which one matters, so that the draws of a whole pass are timed in
turn and their mean is taken. The bound to hold is half.
"""

import functools
import statistics
from collections.abc import Iterator, Sequence
from itertools import cycle

from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import Batch, noise_batch, search_of, step_of_draw, step_of_pcdarts
from benchmarks.workload import SHAPES, Shape, Workload
from cpnas_cli.efficiency.timing import interleaved_seconds, paired_ratio
from cpnas_cli.networks.shapes import PRECISIONS
from cpnas_cli.search_space import ALL_CANDIDATES, Genotype, draw_pass
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks

TITLE = "search step, CP-NAS against PC-DARTS"


def step_of_cpnas(shared: SharedNetworks, genotypes: Iterator[Genotype], batch: Batch) -> None:
    """One step of the drawn Child and one of the drawn Parent."""
    genotype = next(genotypes)
    for name in PRECISIONS:
        step_of_draw(shared, name, genotype, batch)


def measure(shape: Shape, repetitions: int, *, warmup: int = 3) -> dict[str, float]:
    batch = noise_batch(shape)
    search = search_of(Workload(shape, num_images=2 * shape.batch_size))
    genotypes = cycle(draw_pass(ALL_CANDIDATES, seed=0, pass_index=0))
    seconds = interleaved_seconds(
        {
            "cpnas": functools.partial(step_of_cpnas, SharedNetworks(search), genotypes, batch),
            "pcdarts": step_of_pcdarts(search, batch),
        },
        repetitions=repetitions,
        warmups=warmup,
    )
    return {
        "CP-NAS step ms": 1000 * statistics.fmean(seconds["cpnas"]),
        "PC-DARTS step ms": 1000 * statistics.fmean(seconds["pcdarts"]),
        "median ratio": paired_ratio(seconds["cpnas"], seconds["pcdarts"]).median,
        "ratio of means": statistics.fmean(seconds["cpnas"]) / statistics.fmean(seconds["pcdarts"]),
    }


def tabulate(shapes: Sequence[Shape] = SHAPES, *, repetitions: int, warmup: int = 3) -> Rows:
    return [{**shape.column(), **measure(shape, repetitions, warmup=warmup)} for shape in shapes]


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=8)
