"""Which width, with its teacher or without, and how many epochs, from measured seconds; pure arithmetic.

    seconds left = (1 - KEPT_BACK) time asked - seconds spent - seconds after the training
    epochs       = floor(seconds left / (steps of an epoch * seconds of a step)), at most 2 * enough
    enough       = STEPS_ENOUGH / steps of an epoch, from 20 to 200
    worth        = sqrt(channels) * min(epochs, enough), and with its teacher TEACHER_WORTH times as much
                   if there are at least TEACHER_FROM epochs, or as many as are asked for

where a step is one of the Child, with its teacher also one of the teacher. Chosen is what has the largest worth: twice
the epochs are worth four times the channels, until there are enough of these, and a teacher is worth its time unless
there are few.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cpnas_cli.errors import UsageError

KEPT_BACK = 0.1
"""Of the time, for whatever slows the machine down after it was measured; ours."""

UNSURE = 1.5
"""What a few steps say of the seconds of all can be wrong by so much on a machine that does other things; ours."""

SEARCH_SHARE = 0.5
"""Of the time, for a search that is asked for; ours: what it finds must still be trained."""

STEPS_ENOUGH = 3750
"""20 epochs of 6,000 images in batches of 32: what 88.4 % on Fashion-MNIST took (docs/accuracy.md)."""

FEWEST_ENOUGH, MOST_ENOUGH = 20, 200

TEACHER_FROM = 40
"""Epochs; with fewer the Child alone, in the same time, was better; ours: docs/fit.md has what was measured."""

TEACHER_WORTH = 3.0
"""What an epoch with the teacher is worth then, in epochs without; ours: more than it takes, which is some 2."""


@dataclass(frozen=True)
class Times:
    """What a fit has to do besides its epochs, in seconds.

    Attributes:
      asked: for all of it. spent: so far. after: of evaluation, export and measurement, when the training is over.
      kept_back: share of what is asked that is not for the training either.
    """

    asked: float
    spent: float
    after: float
    kept_back: float = KEPT_BACK

    @property
    def left(self) -> float:
        """For the training."""
        return (1 - self.kept_back) * self.asked - self.spent - self.after

    def needed(self, seconds: float) -> float:
        """What would have to be asked for a training of so many seconds."""
        return (seconds + self.spent + self.after) / (1 - self.kept_back)


@dataclass(frozen=True)
class Way:
    """To train a network that is small and fast enough: what an epoch takes, with its teacher one of each."""

    num_channels: int
    seconds_of_epoch: float
    is_taught: bool = True


@dataclass(frozen=True)
class Plan:
    """What is trained, and how long it will take."""

    num_channels: int
    num_epochs: int
    seconds: float
    is_taught: bool = True


def epochs_enough(num_steps: int) -> int:
    """Epochs from which on a wider network is worth more; see the module's text.

    Args:
      num_steps: of an epoch.
    """
    return min(max(math.ceil(STEPS_ENOUGH / num_steps), FEWEST_ENOUGH), MOST_ENOUGH)


def measure_enough(
    ways: Iterable[Way], times: Callable[[], Times], *, enough: int, fixed: int | None = None
) -> list[Way]:
    """Ways from the widest down to the first that has epochs enough: a narrower one cannot be the better choice.

    Args:
      ways: the next one is asked for, and so measured, only where the last, were it `UNSURE` times as slow as it
        seems, has too few epochs.
      times: asked after each of them, because measuring takes time too.
      enough: epochs, see `epochs_enough`. fixed: epochs that are asked for, no more and no fewer.
    """
    measured = list[Way]()
    most = enough if fixed is None else fixed
    for way in ways:
        measured.append(way)
        slower = replace(way, seconds_of_epoch=UNSURE * way.seconds_of_epoch)
        if _epochs(slower, times(), most=most) == most:
            break
    return measured


def chosen_plan(ways: Sequence[Way], times: Times, *, enough: int, fixed: int | None = None) -> Plan:
    """The one that uses the time best, see the module's text; of equally good ones the widest, alone.

    Args:
      enough, fixed: as above.

    Raises:
      UsageError: not one epoch (or not the fixed number) fits; says what time would do.
    """
    at_least, counted, most = (1, enough, 2 * enough) if fixed is None else (fixed, fixed, fixed)

    def worth(way: Way) -> tuple[float, int, bool]:
        epochs = _epochs(way, times, most=most)
        factor = TEACHER_WORTH if way.is_taught and epochs >= (fixed or TEACHER_FROM) else 1.0
        value = math.sqrt(way.num_channels) * min(epochs, counted) * factor
        return round(value, 6), way.num_channels, not way.is_taught

    possible = [way for way in ways if _epochs(way, times, most=most) >= at_least]
    if not possible:
        quickest = min(ways, key=lambda way: way.seconds_of_epoch)
        raise UsageError(_too_short(quickest, times, num_epochs=at_least))
    best = max(possible, key=worth)
    num_epochs = _epochs(best, times, most=most)
    return Plan(best.num_channels, num_epochs, num_epochs * best.seconds_of_epoch, best.is_taught)


def epochs_in_time(planned: int, *, seconds_of_epoch: float, left: float, fewest: int = 1) -> int:
    """Of the Child, when its teacher is trained: as planned if they end in time, else as many as surely do.

    Args:
      seconds_of_epoch: by what the teacher's took. left: seconds of what was asked. fewest: that make a training.
    """
    if planned * seconds_of_epoch <= left:
        return planned
    return min(max(math.floor((1 - KEPT_BACK / 2) * left / seconds_of_epoch), fewest), planned)


def _epochs(way: Way, times: Times, *, most: int) -> int:
    return max(min(math.floor(times.left / way.seconds_of_epoch), most), 0)


def _too_short(way: Way, times: Times, *, num_epochs: int) -> str:
    epochs = "one epoch" if num_epochs == 1 else f"{num_epochs} epochs"
    of = "the teacher and the Child" if way.is_taught else "the Child"
    seconds = num_epochs * way.seconds_of_epoch
    return (
        f"--time {time_text(times.asked)} is too short: {epochs} of {of} with "
        f"{way.num_channels} channels would take {time_text(seconds)} here, all else "
        f"{time_text(times.spent + times.after)}; type at least --time {time_text(times.needed(seconds))}"
    )


def time_text(seconds: float) -> str:
    """As it can be typed, rounded up: 95s, 20m, 21m40s."""
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    if minutes < 2:
        return f"{whole}s"
    return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"
