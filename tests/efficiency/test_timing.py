"""Times of calls in turn: who is called when, on a clock that is set by hand, and what is made of the seconds."""

import statistics
from collections.abc import Callable

import pytest

from cpnas_cli.efficiency import timing
from cpnas_cli.efficiency.timing import (
    Spread,
    Timing,
    interleaved,
    interleaved_seconds,
    paired_ratio,
    time_interleaved,
)


class Clock:
    """Stands still but for what passes; notes who let it pass."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def passing(self, name: str, *durations: float) -> Callable[[], None]:
        """A call that takes these seconds, one after the other and then the last ever on."""
        left = list(durations)

        def call() -> None:
            self.events.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call

    def sleep(self, seconds: float) -> None:
        self.events.append("pause")
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_measurements_are_taken_in_turn_after_their_warm_up() -> None:
    calls: list[str] = []

    def measure(name: str) -> Callable[[], float]:
        return lambda: calls.append(name) or float(len(calls))

    values = interleaved({"a": measure("a"), "b": measure("b")}, repetitions=3, warmups=2)
    assert "".join(calls) == "aabb" + "ababab"
    assert values == {"a": [5.0, 7.0, 9.0], "b": [6.0, 8.0, 10.0]}


def test_seconds_are_those_of_the_call_alone(clock: Clock) -> None:
    calls = {"a": clock.passing("a", 9.0, 1.0, 2.0), "b": clock.passing("b", 9.0, 4.0)}
    assert interleaved_seconds(calls, repetitions=2, warmups=1) == {"a": [1.0, 2.0], "b": [4.0, 4.0]}
    assert clock.events == ["a", "b", "a", "b", "a", "b"]


def test_a_pause_comes_before_every_timed_call_and_a_short_one_is_made_once_more(clock: Clock) -> None:
    calls = {"short": clock.passing("short", 0.01), "long": clock.passing("long", 0.5)}
    times = time_interleaved(calls, repetitions=2, warmups=1)
    first = ["pause", "short", "short", "pause", "long", "long"]  # nobody knows yet that it is long
    second = ["pause", "short", "short", "pause", "long"]
    assert clock.events == ["short", "long", *first, *second]
    assert times["short"].median == pytest.approx(0.01)  # neither pause nor repetition
    assert times["long"].median == pytest.approx(0.5)


def test_a_spread_is_median_and_percentiles() -> None:
    """Of 0, 1, ..., 10 the 10th and 90th percentile are 1 and 9."""
    assert Spread.of([float(value) for value in reversed(range(11))]) == Spread(5.0, 1.0, 9.0)
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)
    assert Spread.of([1.0, 2.0, 4.0, 9.0]).median == statistics.median([1.0, 2.0, 4.0, 9.0]) == 3.0


def test_a_timing_is_scaled_and_lessened() -> None:
    assert Timing.of([2.0, 2.0]) == Timing(2.0, 2.0, 2.0)
    assert Timing(4.0, 2.0, 8.0).scaled(0.5) == Timing(2.0, 1.0, 4.0)
    assert Timing(4.0, 2.0, 8.0).less(1.0) == Timing(3.0, 1.0, 7.0)


def test_ratios_are_of_the_same_repetition() -> None:
    """On a machine that is 1, 10 and 100 times slower: twice as long is twice as long."""
    assert paired_ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0]) == Spread(2.0, 2.0, 2.0)
    assert paired_ratio([1.0, 5.0, 60.0], [1.0, 10.0, 20.0]).median == 1.0  # that of the medians, 5 and 10, is 1/2
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio([1.0, 2.0], [1.0])
