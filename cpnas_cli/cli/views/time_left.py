"""How long what is left of a run will take, by what was done of it."""

import time
from collections import Counter, deque
from collections.abc import Sequence

RECENT = 50
"""Units of a kind whose mean counts: the machine may do other things than it did at first."""

TAUGHT_CHILD = 1.4
"""An epoch of a Child that has a teacher beside one of the Parent; median of ten trainings, 1.25 to 1.8."""

CHILD = 1.15
"""An epoch of a Child that has none, see docs/performance.md."""

PASS = 0.25
"""Seconds in which a pass is validated beside those of its draws; of three searches 0.22 to 0.35."""


class TimeLeft:
    """Seconds that are left, of units of work that come in an order that is known and are not all alike.

    What a unit takes is the mean of those of its kind that were done last; of a kind that none was done of, what its
    work says beside that of the others.

    Args:
      work: of each unit, in the order in which they are done; those of a kind have the same.
      beside: what is done between the units, as a share of their seconds; as long as nothing was seen of it.
    """

    def __init__(self, work: Sequence[float], *, beside: float = 0.0) -> None:
        self._left = list(work)
        self._seconds: dict[float, deque[float]] = {}
        self._total, self._beside, self._seconds_beside = 0.0, beside, 0.0
        self._started = time.monotonic()

    def unit_done(self, seconds: float) -> None:
        kind = self._left.pop(0) if self._left else 1.0
        self._seconds.setdefault(kind, deque(maxlen=RECENT)).append(seconds)
        self._total += seconds
        self._started = time.monotonic()

    def done_beside(self, seconds: float) -> None:
        """What was done between two units."""
        self._seconds_beside += seconds
        self._beside = self._seconds_beside / self._total if self._total else self._beside
        self._started = time.monotonic()

    def drop(self, count: int) -> None:
        """There are so many fewer of the units that come last."""
        del self._left[len(self._left) - count :]

    @property
    def seconds(self) -> float | None:
        """By what was done until now; None: nothing is left, or none was done."""
        if not self._left or not self._seconds:
            return None
        recent = [(kind, sum(each), len(each)) for kind, each in self._seconds.items()]
        rate = sum(seconds for _, seconds, _ in recent) / sum(kind * count for kind, _, count in recent)
        means = {kind: seconds / count for kind, seconds, count in recent}
        units = sum(count * means.get(kind, kind * rate) for kind, count in Counter(self._left).items())
        return max((1 + self._beside) * units - (time.monotonic() - self._started), 0.0)
