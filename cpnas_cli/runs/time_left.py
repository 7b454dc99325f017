"""How long what is left of a run will take, by what was done of it."""

import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import NamedTuple

RECENT = 50
"""Units of a kind that count: the machine may do other things than it did at first."""

FIRST_PART = 0.1
"""Of the first unit, after which it is known what it takes; what is done once is done by then."""


class Unit(NamedTuple):
    """A part of a run: of a kind, and what it has to do beside all other units."""

    kind: str
    work: float = 1.0


class TimeLeft:
    """Seconds that are left, of units that come in an order that is known and are not all alike.

    A unit takes its work times the seconds of a work of 1: those of its kind that were done last, or where none was
    done yet, those of all kinds.

    Args:
      units: in the order in which they are done.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._left = deque(units)
        self._done: dict[str, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=RECENT))  # seconds, work
        self._started = time.monotonic()
        self._part, self._part_seconds = 0.0, 0.0

    def unit_done(self, seconds: float, *, heaviness: float = 1.0) -> None:
        """
        Args:
          heaviness: what it had to do beside what was known of it.
        """
        unit = self._left.popleft() if self._left else Unit("more")
        self._done[unit.kind].append((seconds, heaviness * unit.work))
        self._started = time.monotonic()

    def part_done(self, part: float) -> None:
        """So much of the first unit; when there are whole ones, these say it better."""
        self._part, self._part_seconds = part, time.monotonic() - self._started

    def drop(self, count: int) -> None:
        """There are so many fewer of the units that come last."""
        for _ in range(count):
            self._left.pop()

    @property
    def seconds(self) -> float | None:
        """By what was done until now; None: nothing is left, or too little was done."""
        if not self._left or not (self._done or self._part >= FIRST_PART):
            return None
        first = self._left[0]
        done = self._done or {first.kind: [(self._part_seconds, self._part * first.work)]}
        sums = {kind: (sum(each for each, _ in units), sum(each for _, each in units)) for kind, units in done.items()}
        of_any = sum(seconds for seconds, _ in sums.values()) / sum(work for _, work in sums.values())
        of_kind = {kind: seconds / work for kind, (seconds, work) in sums.items()}
        left = sum(unit.work * of_kind.get(unit.kind, of_any) for unit in self._left)
        return max(left - (time.monotonic() - self._started), 0.0)
