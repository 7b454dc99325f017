"""Peak memory of training steps, each in a fresh process.

The convention: MiB of resident memory at the peak, above what was resident after the imports. So
network, optimizer, batch and every buffer of the libraries count; Python, PyTorch and their code do not.

The peak is the kernel's mark for the process (VmHWM in /proc/self/status), reset after the imports.
Where there is no such file, `getrusage`'s ru_maxrss stands in, and the rows say so: it never falls,
and a process may inherit that of the one that started it, so that a value may be too small there.
"""

import multiprocessing
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import torch

from benchmarks.child_step import SEPARABLE, make_step, noise_batch
from benchmarks.timing import Rows, parse_arguments, report
from benchmarks.workload import SHAPES, Shape
from cpnas_cli.networks.operations import Precision

TITLE = "peak memory of a training step, above the imports"
STEPS: dict[str, tuple[Precision, bool]] = {
    "Parent": ("full", False),
    "Child": ("binary", False),
    "Child with (4.17)": ("binary", True),
}
NUM_STEPS = 3  # the optimizer's state is there from the first on
MIB = 2**20
STATUS = Path("/proc/self/status")

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Resident(NamedTuple):
    """Resident memory of this process in MiB: now, and at its peak."""

    now: float
    peak: float


def resident(status: Path = STATUS) -> Resident:
    try:
        lines = (line.split() for line in status.read_text(encoding="ascii").splitlines())
        kib = {words[0]: int(words[1]) for words in lines if words[0] in ("VmRSS:", "VmHWM:")}
        return Resident(kib["VmRSS:"] / 1024, kib["VmHWM:"] / 1024)
    except (OSError, KeyError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak = peak / MIB if sys.platform == "darwin" else peak / 1024
        return Resident(peak, peak)


def source(status: Path = STATUS) -> dict[str, str]:
    """Where `resident` takes the peak from, as the column of a table."""
    return {"peak by": "VmHWM" if status.exists() and "VmHWM:" in status.read_text("ascii") else "ru_maxrss"}


def reset_peak() -> None:
    """Let the peak be what is resident now, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def in_fresh_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """What the function returns in a new interpreter, which has imported no more than the function needs."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def peak_of_steps(
    shape: Shape, precision: Precision, *, child_parent_loss: bool, num_steps: int, num_threads: int
) -> float:
    """MiB above those at the call; meant for a fresh process."""
    torch.set_num_threads(num_threads)
    before = resident().now
    reset_peak()
    step = make_step(SEPARABLE, shape, precision, noise_batch(shape), child_parent_loss=child_parent_loss)
    for _ in range(num_steps):
        step()
    return resident().peak - before


def tabulate(shapes: Sequence[Shape] = SHAPES[:2], *, repetitions: int) -> Rows:
    rows = []
    for shape in shapes:
        peaks: dict[str, list[float]] = {name: [] for name in STEPS}
        for _ in range(repetitions):
            for name, (precision, child_parent_loss) in STEPS.items():
                peak = in_fresh_process(
                    peak_of_steps,
                    shape,
                    precision,
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
                **source(),
            }
            for name, median in medians.items()
        ]
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, repetitions=3)
    report(TITLE, tabulate(repetitions=arguments.repetitions), as_json=arguments.json)


if __name__ == "__main__":
    main()
