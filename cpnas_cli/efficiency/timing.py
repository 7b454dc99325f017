"""Times of calls, side by side."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Timing:
    """Seconds per call: median, 10th and 90th percentile over the repetitions."""

    median: float
    p10: float
    p90: float


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], *, repetitions: int, warmups: int = 3
) -> dict[str, Timing]:
    """All calls in turn, again and again, so that whatever slows the machine down for a while slows all of them."""
    for call in calls.values():
        for _ in range(warmups):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: Timing(*(float(value) for value in np.percentile(times, (50, 10, 90)))) for name, times in seconds.items()
    }
