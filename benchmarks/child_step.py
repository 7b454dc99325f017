"""A training step of the Child against one of its Parent: the same architecture, batch and images.

A step is forward, loss, backward, clipping and optimizer, as in a training. The bound to hold on a
CPU is a ratio of 1.3.
"""

import statistics
from collections.abc import Sequence

from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import noise_batch, step_of_training
from benchmarks.workload import SHAPES, Shape
from cpnas_cli.efficiency.timing import interleaved_seconds, paired_ratio
from cpnas_cli.search_space import Genotype, draw_uniform

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


def measure(genotype: Genotype, shape: Shape, repetitions: int, *, warmup: int = 3) -> dict[str, float]:
    """Medians of both steps, and the ratio of the Child's to the Parent's, without and with (4.17)."""
    batch = noise_batch(shape)
    seconds = interleaved_seconds(
        {
            "parent": step_of_training("parent", genotype, shape, batch),
            "child": step_of_training("child", genotype, shape, batch),
            "child with its loss": step_of_training("child", genotype, shape, batch, child_parent_loss=True),
        },
        repetitions=repetitions,
        warmups=warmup,
    )
    return {
        "Parent ms": 1000 * statistics.median(seconds["parent"]),
        "Child ms": 1000 * statistics.median(seconds["child"]),
        "Child / Parent": paired_ratio(seconds["child"], seconds["parent"]).median,
        "with (4.17)": paired_ratio(seconds["child with its loss"], seconds["parent"]).median,
    }


def tabulate(shapes: Sequence[Shape] = SHAPES, *, repetitions: int, warmup: int = 3) -> Rows:
    return [
        {**shape.column(), "genotype": name, **measure(genotype, shape, repetitions, warmup=warmup)}
        for shape in shapes
        for name, genotype in GENOTYPES.items()
    ]


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=9)
