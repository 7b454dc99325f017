"""Which network to take for a given size or time: the most accurate of those that fit, and what 1 bit makes of it.

A difference is that of the best 1-bit point and the best other point that fit. Its standard error is
sqrt(s1^2 / n1 + s2^2 / n2), from the deviations s over n seeds; with a single seed on either side there is none.
Two points are level where the difference is not larger than its standard error.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cpnas_cli.deploy.deployed import ONE_BIT

Verdict = Literal["1-bit", "other", "level", "none"]

BUDGETS_BYTES = tuple(2**power * 1024 for power in range(4, 9))  # 16 to 256 KiB


@dataclass(frozen=True)
class Point:
    """A network of a family at a width.

    Attributes:
      accuracy_mean: over n seeds. accuracy_std: of a sample; None for one seed.
      seconds: for one image, median; None: not measured.
    """

    family: str
    width: float
    accuracy_mean: float
    accuracy_std: float | None
    n: int
    bytes: int
    seconds: float | None


@dataclass(frozen=True)
class Choice:
    """What to take within a budget, of bytes or of seconds.

    Attributes:
      verdict: which kind is more accurate; "none": nothing fits.
      take: the family and width that the verdict names; of two level ones that with the higher mean.
      one_bit, other: the best point of each kind that fits.
      difference: 1-bit less the other. standard_error: of it, None where a kind does not fit or has a single seed.
    """

    budget: float
    verdict: Verdict
    take: Point | None
    one_bit: Point | None
    other: Point | None
    difference: float | None
    standard_error: float | None


def choose(points: Iterable[Point], budget: float, *, by: Literal["bytes", "seconds"]) -> Choice:
    """The choice among the points whose bytes or seconds are at most the budget."""
    fitting = [point for point in points if (cost := getattr(point, by)) is not None and cost <= budget]
    one_bit = _best([point for point in fitting if point.family == ONE_BIT], by)
    other = _best([point for point in fitting if point.family != ONE_BIT], by)
    if one_bit is None or other is None:
        verdict: Verdict = "1-bit" if one_bit else "other" if other else "none"
        return Choice(budget, verdict, one_bit or other, one_bit, other, None, None)
    difference = one_bit.accuracy_mean - other.accuracy_mean
    error = standard_error(one_bit, other)
    # accuracies are fractions of whole numbers of images, which sums round
    is_level = abs(difference) <= (error or 0.0) + 1e-12
    verdict = "level" if is_level else "1-bit" if difference > 0 else "other"
    return Choice(budget, verdict, one_bit if difference > 0 else other, one_bit, other, difference, error)


def _best(points: Sequence[Point], by: str) -> Point | None:
    """The most accurate; of equally accurate ones the cheapest."""
    return min(points, key=lambda point: (-point.accuracy_mean, getattr(point, by)), default=None)


def standard_error(first: Point, second: Point) -> float | None:
    """Of the difference of two means, see the module's text."""
    if first.accuracy_std is None or second.accuracy_std is None:
        return None
    return math.sqrt(first.accuracy_std**2 / first.n + second.accuracy_std**2 / second.n)


def budgets_of_seconds(points: Iterable[Point]) -> list[float]:
    """1, 2, 5, 10, 20, ... microseconds: all from the first that lets a point in to the first that lets all in."""
    seconds = [point.seconds for point in points if point.seconds is not None]
    if not seconds:
        return []
    steps = [step * 10**power for power in range(-6, 5) for step in (1, 2, 5)]
    first = next(index for index, step in enumerate(steps) if step >= min(seconds) or index == len(steps) - 1)
    last = next(index for index, step in enumerate(steps) if step >= max(seconds) or index == len(steps) - 1)
    return [float(f"{step:.6g}") for step in steps[first : last + 1]]


def advise(points: Sequence[Point]) -> dict[str, Any]:
    """The part `advice` of a frontier's document: choices by size and by time, and one sentence."""
    sizes = [choose(points, budget, by="bytes") for budget in BUDGETS_BYTES]
    times = [choose(points, budget, by="seconds") for budget in budgets_of_seconds(points)]
    return {
        "sizes": [_document(choice, "budget_bytes", int) for choice in sizes],
        "times": [_document(choice, "budget_seconds", float) for choice in times],
        "sentence": sentence(sizes, times),
    }


def _document(choice: Choice, key: str, kind: type) -> dict[str, Any]:
    def named(point: Point | None) -> dict[str, Any]:
        return {name: getattr(point, name, None) for name in ("family", "width", "accuracy_mean")}

    return {
        key: kind(choice.budget),
        "verdict": choice.verdict,
        "take": named(choice.take),
        "one_bit": named(choice.one_bit),
        "other": named(choice.other),
        "difference": choice.difference,
        "standard_error": choice.standard_error,
    }


def sentence(sizes: Sequence[Choice], times: Sequence[Choice]) -> str:
    """Which to take, in one sentence; where 1 bit is nowhere the best, it says so first."""
    choices = [*sizes, *times]
    if all(choice.verdict == "none" for choice in choices):
        return "No network fits into any of these sizes or times."
    if any(choice.verdict == "1-bit" for choice in choices):
        parts = ["1 bit is the best choice for some sizes or times"]
    elif any(choice.verdict == "level" for choice in choices):
        parts = ["1 bit is nowhere the best choice for these images, at best level with another"]
    else:
        parts = ["1 bit is nowhere the best choice for these images"]
    parts += [_part("by size", sizes, 1024, "KiB"), _part("by time", times, 1e-3, "ms")]
    if any(choice.one_bit and choice.other and choice.standard_error is None for choice in choices):
        parts.append("all of a single seed, and another one may say otherwise")
    return f"{'; '.join(part for part in parts if part)}."


def _part(name: str, choices: Sequence[Choice], unit: float, unit_name: str) -> str:
    """ "by size take 1 bit at 16 to 64 KiB, int8 CNN at 128 KiB"; empty where nothing fits."""
    groups: list[tuple[str, list[Choice]]] = []
    for choice in choices:
        what = _what(choice)
        if what is None:
            continue
        if groups and groups[-1][0] == what:
            groups[-1][1].append(choice)
        else:
            groups.append((what, [choice]))
    found = []
    for what, group in groups:
        ends = dict.fromkeys(f"{group[index].budget / unit:g}" for index in (0, -1))
        found.append(f"{what} at {' to '.join(ends)} {unit_name}")
    return f"{name} take {', '.join(found)}" if found else ""


def _what(choice: Choice) -> str | None:
    if choice.take is None:
        return None
    if choice.verdict == "level" and choice.one_bit and choice.other:
        return f"1 bit or {choice.other.family} (level)"
    return "1 bit" if choice.verdict == "1-bit" else choice.take.family
