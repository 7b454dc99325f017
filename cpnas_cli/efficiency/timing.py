"""Times of calls, side by side: all in turn, so that whatever slows the machine down for a while slows all of them."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median, 10th and 90th percentile over the repetitions."""

    median: float
    p10: float
    p90: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(*(float(value) for value in np.percentile(values, (50, 10, 90))))


@dataclass(frozen=True)
class Timing(Spread):
    """Seconds per call."""

    def scaled(self, factor: float) -> "Timing":
        return Timing(self.median * factor, self.p10 * factor, self.p90 * factor)

    def less(self, seconds: float) -> "Timing":
        return Timing(self.median - seconds, self.p10 - seconds, self.p90 - seconds)


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The ratios of values of the same repetition; a slow minute slows both, so that they vary less than the values."""
    return Spread.of([a / b for a, b in zip(numerators, denominators, strict=True)])


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def interleaved(
    measurements: Mapping[str, Callable[[], float]], *, repetitions: int, warmups: int = 3
) -> dict[str, list[float]]:
    """What every measurement returns, taken in turn: A B A B ...; before that each has been made `warmups` times."""
    _warm_up(measurements, warmups)
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repetitions):
        for name, measure in measurements.items():
            values[name].append(measure())
    return values


def interleaved_seconds(
    calls: Mapping[str, Callable[[], object]], *, repetitions: int, warmups: int = 3
) -> dict[str, list[float]]:
    """Seconds of every call, taken in turn; for calls that leave nothing running, such as steps of a training."""
    timed = {name: functools.partial(seconds_of, call) for name, call in calls.items()}
    return interleaved(timed, repetitions=repetitions, warmups=warmups)


# Threads of a runtime go on spinning for a moment when its call has ended, and would take a core from the next one.
_PAUSE_SECONDS = 0.01
# Shorter calls are made once more beforehand in every turn: the others have emptied the caches.
_SHORT_SECONDS = 0.05


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], *, repetitions: int, warmups: int = 3
) -> dict[str, Timing]:
    """Calls of several runtimes in turn.

    Before each timed call there is a pause, and a call that takes less than 50 ms is made once without timing.
    """
    _warm_up(calls, warmups)
    undisturbed = {name: _Undisturbed(call) for name, call in calls.items()}
    seconds = interleaved(undisturbed, repetitions=repetitions, warmups=0)
    return {name: Timing.of(values) for name, values in seconds.items()}


class _Undisturbed:
    """Seconds of a call that the runtimes before it disturb as little as can be."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._last_seconds = 0.0

    def __call__(self) -> float:
        time.sleep(_PAUSE_SECONDS)
        if self._last_seconds < _SHORT_SECONDS:
            self._call()
        self._last_seconds = seconds_of(self._call)
        return self._last_seconds


def _warm_up(calls: Mapping[str, Callable[[], object]], count: int) -> None:
    for call in calls.values():
        for _ in range(count):
            call()
