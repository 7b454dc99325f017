"""What the Child's signs cost: a training step as it is, and with each of its parts as it would be without the care.

`sign` in two passes over memory (a comparison written into floats, then one fused multiply and add) against three; the
sign of a batch norm in one function, which keeps nothing more than the batch norm, against the two apart. Seconds of
the processor, so that other programs count little, on one thread.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from unittest import mock

import torch

from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import noise_batch, search_of, step_of_draw
from benchmarks.workload import SHAPES, Shape, Workload
from cpnas_cli.binarization import estimators, filters, normalized_sign
from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.efficiency.timing import interleaved, paired_ratio
from cpnas_cli.networks.modules import batch_norm
from cpnas_cli.search_space import ALL_CANDIDATES, draw_pass
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks

TITLE = "a Child's training step, by how signs are computed"


def sign_in_three_passes(x: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    return torch.ge(x, 0, out=torch.empty_like(x) if out is None else out).mul_(2).sub_(1)


def sign_apart(norm: batch_norm.BatchNorm, x_BCHW: torch.Tensor, *, estimator: Estimator) -> torch.Tensor:
    return estimators.binarize_activation(norm(x_BCHW), estimator=estimator)


def measure(shape: Shape, repetitions: int) -> Rows:
    torch.set_num_threads(1)
    batch = noise_batch(shape)
    genotypes = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)
    shared = SharedNetworks(search_of(Workload(shape, num_images=2 * shape.batch_size)))

    def make_step(*, three_passes: bool, apart: bool) -> Callable[[], float]:
        turns = iter(genotypes * repetitions)

        def step() -> float:
            used = sign_in_three_passes if three_passes else estimators.sign
            sign_of_norm = sign_apart if apart else batch_norm.BatchNorm.sign
            with (
                mock.patch.object(estimators, "sign", used),
                mock.patch.object(filters, "sign", used),
                mock.patch.object(normalized_sign, "sign", used),
                mock.patch.object(batch_norm.BatchNorm, "sign", sign_of_norm),
            ):
                started = time.process_time()
                step_of_draw(shared, "child", next(turns), batch)
                return time.process_time() - started

        return step

    kinds = {
        "three passes, apart": make_step(three_passes=True, apart=True),
        "two passes, apart": make_step(three_passes=False, apart=True),
        "two passes, one function": make_step(three_passes=False, apart=False),
    }
    seconds = interleaved(kinds, repetitions=repetitions, warmups=1)
    reference = seconds["three passes, apart"]
    return [
        {
            **shape.column(),
            "sign": kind,
            "ms": 1000 * statistics.median(values),
            "to the first": paired_ratio(values, reference).median,
        }
        for kind, values in seconds.items()
    ]


def tabulate(shapes: Sequence[Shape] = SHAPES, *, repetitions: int) -> Rows:
    return [row for shape in shapes for row in measure(shape, repetitions)]


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=8)
