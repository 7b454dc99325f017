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

    def scaled(self, factor: float) -> "Timing":
        return Timing(self.median * factor, self.p10 * factor, self.p90 * factor)

    def less(self, seconds: float) -> "Timing":
        return Timing(self.median - seconds, self.p10 - seconds, self.p90 - seconds)


# Threads of a runtime go on spinning for a moment when its call has ended, and would take a core from the next one.
_PAUSE_SECONDS = 0.01
# Shorter calls are made once more beforehand in every turn: the others have emptied the caches.
_SHORT_SECONDS = 0.05


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], *, repetitions: int, warmups: int = 3
) -> dict[str, Timing]:
    """All calls in turn, again and again, so that whatever slows the machine down for a while slows all of them.

    Before each timed call there is a pause, and a call that takes less than 50 ms is made once without timing.
    """
    seconds: dict[str, list[float]] = {}
    for name, call in calls.items():
        for _ in range(warmups):
            call()
        seconds[name] = []
    for _ in range(repetitions):
        for name, call in calls.items():
            time.sleep(_PAUSE_SECONDS)
            if not seconds[name] or seconds[name][-1] < _SHORT_SECONDS:
                call()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: Timing(*(float(value) for value in np.percentile(times, (50, 10, 90)))) for name, times in seconds.items()
    }
