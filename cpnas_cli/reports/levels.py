"""Levels by which the accuracies in a figure are judged: that of guessing, and that of a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

SOFT_INK = "#555555"
SQUASHED = 0.5
"""A level is drawn as long as what was there before keeps at least so much of the axis; ours."""


@dataclass(frozen=True)
class Level:
    """A line across the figure.

    Attributes:
      name: "guessing", or of the baseline. accuracy: in percent.
    """

    name: str
    accuracy: float


def guessing_level(document: Mapping[str, Any]) -> Level | None:
    """Of guessing among equally frequent classes; None where the document, of an older version, has no `num_classes`.

    Raises:
      ValueError: there are no such numbers of classes.
    """
    num_classes = document.get("num_classes")
    if num_classes is None:
        return None
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes {num_classes!r}")
    return Level("guessing", 100 / num_classes)


def in_words(level: Level | None) -> str:
    """For a caption; "" where it is not known."""
    return "" if level is None else f"{level.name.capitalize()}: {level.accuracy:.3g} %. "


def draw_levels(axes: Axes, levels: Sequence[Level | None], *, named: bool = True) -> None:
    """Lines, with their names beside the axes; those that would squash what is drawn already are left out."""
    low, high = axes.get_ylim()
    near = [level for level in levels if level is not None and _is_near(level.accuracy, low, high)]
    for rank, level in enumerate(sorted(near, key=lambda level: level.accuracy)):
        axes.axhline(level.accuracy, color=SOFT_INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.0)  # above the grid
        if not named:
            continue
        axes.annotate(
            f"{level.name}\n{level.accuracy:.1f} %",
            (1.01, level.accuracy),
            xycoords=("axes fraction", "data"),
            va="center" if len(near) == 1 else ("top" if rank == 0 else "bottom"),  # two may be near each other
            fontsize=7.5,
            color=SOFT_INK,
            annotation_clip=False,
            parse_math=False,
        )


def _is_near(accuracy: float, low: float, high: float) -> bool:
    return high - low >= SQUASHED * (max(high, accuracy) - min(low, accuracy))
