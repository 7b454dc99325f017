"""Peak memory of training steps, each in a fresh process.

The convention: MiB of resident memory at the peak, above what was resident after the imports. So
network, optimizer, batch and every buffer of the libraries count; Python, PyTorch and their code do not.

The peak is the kernel's mark for the process, reset after the imports; where that is not to be had, the
rows say so, and a value may be too small, see `efficiency.process_memory`.
"""

import statistics
from collections.abc import Sequence

import torch

from benchmarks.child_step import SEPARABLE
from benchmarks.tables import Rows, run_alone
from benchmarks.training_step import noise_batch, step_of_training
from benchmarks.workload import SHAPES, Shape
from cpnas_cli.distributed.device import open_device
from cpnas_cli.efficiency.process_memory import in_fresh_process, peak_source, reset_peak, resident
from cpnas_cli.networks.shapes import NetworkName

TITLE = "peak memory of a training step, above the imports"
STEPS: dict[str, tuple[NetworkName, bool]] = {
    "Parent": ("parent", False),
    "Child": ("child", False),
    "Child with (4.17)": ("child", True),
}
NUM_STEPS = 3  # the optimizer's state is there from the first on
MIB = 2**20


def peak_of_steps(
    shape: Shape, network: NetworkName, *, child_parent_loss: bool, num_steps: int, num_threads: int
) -> float:
    """MiB above those at the call; meant for a fresh process."""
    torch.set_num_threads(num_threads)
    open_device("cpu")  # imports too
    before = resident().now
    reset_peak()
    step = step_of_training(network, SEPARABLE, shape, noise_batch(shape), child_parent_loss=child_parent_loss)
    for _ in range(num_steps):
        step()
    return (resident().peak - before) / MIB


def tabulate(shapes: Sequence[Shape] = SHAPES[:2], *, repetitions: int) -> Rows:
    rows = []
    for shape in shapes:
        peaks: dict[str, list[float]] = {name: [] for name in STEPS}
        for _ in range(repetitions):
            for name, (network, child_parent_loss) in STEPS.items():
                peak = in_fresh_process(
                    peak_of_steps,
                    shape,
                    network,
                    child_parent_loss=child_parent_loss,
                    num_steps=NUM_STEPS,
                    num_threads=torch.get_num_threads(),
                )
                peaks[name].append(peak)
        medians = {name: statistics.median(values) for name, values in peaks.items()}
        rows += [
            {
                **shape.column(),
                "step": name,
                "peak MiB": median,
                "to the Parent": median / medians["Parent"] if medians["Parent"] else None,
                "peak by": peak_source(),
            }
            for name, median in medians.items()
        ]
    return rows


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=3)
