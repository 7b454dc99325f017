"""A whole search: do its later draws cost more time or memory than its first?

One fresh process runs the search of CP-NAS with every record and checkpoint that it writes. After
each draw it notes the seconds of the draw (training and validation of Child and Parent), those of
saving, and the resident memory, see `memory` for the convention. Draws differ because their
architectures do. So afterwards one architecture is drawn as often, and beside each of its draws, in
turn, it is drawn in networks that are new: as many seconds are to be expected of both.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.epochs import GENOTYPE, search_draws
from benchmarks.memory import MIB
from benchmarks.tables import Rows, run_alone
from benchmarks.workload import Shape, Workload
from cpnas_cli.distributed.device import open_device
from cpnas_cli.efficiency.process_memory import Resident, in_fresh_process, peak_source, reset_peak, resident
from cpnas_cli.efficiency.timing import interleaved, paired_ratio
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.search import advance

TITLE = "draws of a search, the first and the later"
WORKLOAD = Workload(Shape(3, 16, 16, 32), num_images=128)
NUM_DRAWS = 35  # a whole search with T = 1
NUM_ROWS = 5


@dataclass(frozen=True)
class Draw:
    """Seconds of one draw, and the memory after it, in bytes above the imports."""

    seconds: float
    saving_seconds: float
    memory: Resident


def search(workload: Workload, *, num_draws: int) -> list[Draw]:
    """The draws of a search, which ends with the first round that has brought so many."""
    before = resident().now
    reset_peak()
    draws: list[Draw] = []
    started = 0.0

    def notify(record: Mapping[str, Any]) -> None:
        nonlocal started
        if record["event"] == "progress" and record["network"] == "child":
            started = time.perf_counter()
        elif record["event"] == "draw":  # told when it is saved
            saving_seconds = max(time.perf_counter() - started - record["seconds"], 0.0)
            memory = Resident(*(count - before for count in resident()))
            draws.append(Draw(record["seconds"], saving_seconds, memory))

    with tempfile.TemporaryDirectory() as folder:
        images = workload.dataset()
        advance(
            Search(RunFolder(Path(folder)), workload.config(), images, open_device("cpu"), notify=notify),
            stop=lambda: len(draws) >= num_draws,
        )
    return draws


def beside_new_networks(workload: Workload, *, num_draws: int) -> list[tuple[float, float]]:
    """Seconds of draws of one architecture: in the same networks ever on, and in networks that are new for each row."""
    same = _draw_of_both(workload)
    pairs: list[tuple[float, float]] = []
    for start, end in parts(num_draws):
        kinds = {"same": same, "new": _draw_of_both(workload)}
        seconds = interleaved(kinds, repetitions=end - start, warmups=0)
        pairs += zip(seconds["same"], seconds["new"], strict=True)
    return pairs


def _draw_of_both(workload: Workload) -> Callable[[], float]:
    """Child and Parent; called once beforehand."""
    calls = search_draws(workload, GENOTYPE).values()

    def draw() -> float:
        return sum(call() for call in calls)

    draw()
    return draw


def parts(num_draws: int) -> list[tuple[int, int]]:
    """First draw and end of each row."""
    ends = [num_draws * row // NUM_ROWS for row in range(NUM_ROWS + 1)]
    return list(itertools.pairwise(ends))


def measure(workload: Workload, num_draws: int, num_threads: int) -> tuple[list[Draw], list[tuple[float, float]]]:
    """The draws of a search, and as many beside those in new networks; for a fresh process."""
    torch.set_num_threads(num_threads)
    draws = search(workload, num_draws=num_draws)
    return draws, beside_new_networks(workload, num_draws=len(draws))


def tabulate(workload: Workload = WORKLOAD, *, num_draws: int = NUM_DRAWS) -> Rows:
    return summarize(*in_fresh_process(measure, workload, num_draws, torch.get_num_threads()))


def summarize(draws: list[Draw], pairs: list[tuple[float, float]]) -> Rows:
    """Medians over a part of the draws each; the memory after its last."""
    rows = []
    for start, end in parts(len(draws)):
        same, new = zip(*pairs[start:end], strict=True)
        rows.append(
            {
                "draws": f"{start + 1} to {end}",
                "draw s": statistics.median(draw.seconds for draw in draws[start:end]),
                "saving s": statistics.median(draw.saving_seconds for draw in draws[start:end]),
                "one architecture s": statistics.median(same),
                "to new networks": paired_ratio(same, new).median,
                "resident MiB": draws[end - 1].memory.now / MIB,
                "peak MiB so far": draws[end - 1].memory.peak / MIB,
                "peak by": peak_source(),
            }
        )
    return rows


if __name__ == "__main__":
    run_alone(
        __doc__, TITLE, tabulate, repetitions=NUM_DRAWS, meaning="draws at least, in whole rounds", argument="num_draws"
    )
