"""Charts as SVG within a page: lines and dots over a number, in the page's own colours, so that they are light or dark
as it is.

A chart is as wide as a phone, so that its texts have one size everywhere; charts stand side by side where there is
room.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from cpnas_cli.reports.page.blocks import Drawing, Legend
from cpnas_cli.reports.page.words import is_number, visible

Form = Literal["line", "dashed", "dotted", "dots"]
Point = tuple[float, float]

NARROW = (360, 230)  # pixels, at a screen of 400
WIDE = (1100, 300)
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 27, 36
SQUASHED = 0.3
"""A level is drawn as long as the values keep at least so much of the height; it stands in a text anyway. Ours."""

MOST_POINTS = 800
"""That a series is drawn with; of more the lowest and the highest of every stretch."""


@dataclass(frozen=True)
class Series:
    """Points from the left to the right; `look` is the number of a colour, 1 to 5."""

    name: str
    points: tuple[Point, ...]
    look: int
    form: Form = "line"


@dataclass(frozen=True)
class Mark:
    """An upright line: something happened there."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """
    Attributes:
      title: what is seen. is_percent: whether the values are fractions, shown as percent.
      level: a line across, and its name: what chance gives, for one; left out where it would squash the values.
    """

    title: str
    x_label: str
    series: tuple[Series, ...]
    is_percent: bool = False
    marks: tuple[Mark, ...] = ()
    level: tuple[float, str] | None = None


def series(name: str, values: Sequence[object], *, look: int, form: Form = "line", first: float = 1.0) -> Series:
    """Of values one after the other; what is no finite number is left out."""
    points = [(first + index, float(value)) for index, value in enumerate(values) if is_number(value)]  # type: ignore[arg-type]
    return Series(name, tuple(points), look, form)


def draw(chart: Chart, *, name: str, wide: bool = False, caption: str = "") -> Drawing:
    """The chart; with `wide` in two forms, of which a screen shows the one that fits.

    Args:
      name: unique in the page.
    """
    legend = tuple(Legend(each.name, each.look, each.form) for each in chart.series if each.points)
    narrow = chart_svg(chart, name=f"{name}-narrow" if wide else name, size=NARROW)
    if not wide:
        return Drawing(narrow, caption, legend=legend)
    return Drawing(chart_svg(chart, name=name, size=WIDE), caption, narrow=narrow, legend=legend)


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> tuple[Point, ...]:
    """At most so many points, in their order: of equal stretches of them the lowest and the highest."""
    if len(points) <= most:
        return tuple(points)
    num_stretches = max(most // 2, 1)
    kept: list[Point] = []
    for stretch in range(num_stretches):
        first, end = (place * len(points) // num_stretches for place in (stretch, stretch + 1))
        places = range(first, end)
        low, high = min(places, key=lambda i: points[i][1]), max(places, key=lambda i: points[i][1])
        kept += [points[place] for place in sorted({low, high})]
    return tuple(kept)


def ticks(low: float, high: float, *, most: int = 5) -> tuple[float, ...]:
    """Round numbers from at most `low` to at least `high`, 1, 2, 2.5 or 5 times a power of ten apart."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-30):  # as good as equal
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 50)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            return tuple(step * place for place in range(first, last + 1))
    raise AssertionError((low, high))


@dataclass(frozen=True)
class _Frame:
    """Where values stand in the picture."""

    width: int
    height: int
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.y_high - value) / (self.y_high - self.y_low) * (self.height - TOP - BOTTOM)


def chart_svg(chart: Chart, *, name: str, size: tuple[int, int]) -> Markup:
    """The picture; title and description are for those who do not see it.

    Args:
      name: unique in the page. size: width and height, pixels.
    """
    width, height = size
    shown = [(each, thinned(each.points)) for each in chart.series if each.points]
    body = _body(chart, shown, width, height) if shown else _nothing(width, height)
    return Markup(
        f'<svg class="chart" role="img" aria-labelledby="{name}-title {name}-desc" viewBox="0 0 {width} {height}">'
        f'<title id="{name}-title">{escape(visible(chart.title))}</title>'
        f'<desc id="{name}-desc">{escape(visible(described(chart)))}</desc>'
        f'<text class="chart-title" x="2" y="12">{escape(visible(chart.title))}</text>{body}</svg>'
    )


def described(chart: Chart) -> str:
    """In words: of every series where it begins and ends, and between what."""
    parts = [f"Over {chart.x_label}."]
    for each in chart.series:
        if each.points:
            values = [y for _, y in each.points]
            first, last, low, high = (_shown(v, chart) for v in (values[0], values[-1], min(values), max(values)))
            parts.append(f"{each.name}: {len(values)} values from {first} to {last}, between {low} and {high}.")
    return " ".join(parts)


def _shown(value: float, chart: Chart) -> str:
    return f"{100 * value:.4g} %" if chart.is_percent else f"{value:.4g}"


def _nothing(width: int, height: int) -> str:
    return f'<text class="tick" x="{width / 2}" y="{height / 2}" text-anchor="middle">nothing to draw yet</text>'


def _body(chart: Chart, shown: Sequence[tuple[Series, tuple[Point, ...]]], width: int, height: int) -> str:
    xs = [x for _, points in shown for x, _ in points] + [mark.x for mark in chart.marks]
    ys = [y for _, points in shown for _, y in points]
    level = chart.level if chart.level is not None and _is_near(chart.level[0], min(ys), max(ys)) else None
    shown_ys = [*ys, level[0]] if level else ys
    rows = ticks(min(shown_ys), max(shown_ys))
    low, high = min(xs), max(xs)
    frame = _Frame(
        width, height, low - (0.5 if high == low else 0), high + (0.5 if high == low else 0), rows[0], rows[-1]
    )
    parts = [_row(value, frame, chart) for value in rows]
    columns = (
        [x for x in ticks(low, high, most=width // 70) if low <= x <= high and x == int(x)] if high > low else [low]
    )
    parts += [
        f'<text class="tick" x="{frame.x(x):.1f}" y="{height - BOTTOM + 15}" text-anchor="middle">{x:g}</text>'
        for x in columns
    ]
    middle = LEFT + (width - LEFT - RIGHT) / 2
    parts.append(
        f'<text class="tick" x="{middle:.1f}" y="{height - 5}" text-anchor="middle">'
        f"{escape(visible(chart.x_label))}</text>"
    )
    parts += [_mark(mark, frame) for mark in chart.marks]
    if level is not None:
        parts.append(_level(*level, frame))
    parts += [_drawn(each, points, frame) for each, points in shown]
    return "".join(parts)


def _is_near(level: float, low: float, high: float) -> bool:
    """Whether what is seen keeps at least `SQUASHED` of the height beside it."""
    return high - low >= SQUASHED * (max(high, level) - min(low, level))


def _row(value: float, frame: _Frame, chart: Chart) -> str:
    y, text = frame.y(value), f"{100 * value:.4g}%" if chart.is_percent else f"{value:.4g}"
    return (
        f'<line class="rule" x1="{LEFT}" x2="{frame.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{text}</text>'
    )


def _mark(mark: Mark, frame: _Frame) -> str:
    x = frame.x(mark.x)
    beside = f'x="{x + 3:.1f}"' if x < frame.width - 30 else f'x="{x - 3:.1f}" text-anchor="end"'
    label = f'<text class="mark" {beside} y="{TOP + 9}">{escape(visible(mark.label))}</text>' if mark.label else ""
    return f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{frame.height - BOTTOM}"/>{label}'


def _level(value: float, label: str, frame: _Frame) -> str:
    y = frame.y(value)
    return (
        f'<line class="level" x1="{LEFT}" x2="{frame.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="mark" x="{frame.width - RIGHT - 2}" y="{y - 4:.1f}" text-anchor="end">'
        f"{escape(visible(label))}</text>"
    )


def _drawn(each: Series, points: Sequence[Point], frame: _Frame) -> str:
    at = [(frame.x(x), frame.y(y)) for x, y in points]
    if each.form == "dots":  # a line of no length with round ends is a dot
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in at)
    elif len(at) == 1:
        path = f"M{at[0][0]:.1f} {at[0][1]:.1f}h0"
    else:
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    return f'<path class="series look-{each.look} {each.form if len(at) > 1 else "dots"}" d="{path}"/>'


def spaced(marks: Sequence[Mark], *, least: float) -> tuple[Mark, ...]:
    """All marks; the labels of those that stand closer than `least` to the labelled one before them are left out."""
    found: list[Mark] = []
    last = -math.inf
    for mark in marks:
        near = mark.x - last < least
        found.append(Mark(mark.x, "" if near else mark.label))
        last = last if near else mark.x
    return tuple(found)


def means(points: Sequence[tuple[object, Point]]) -> tuple[Point, ...]:
    """Of points with keys, in their order: the mean x and y of every run of equal keys."""
    found = []
    for _, group in itertools.groupby(points, key=lambda each: each[0]):
        members = [point for _, point in group]
        found.append((math.fsum(x for x, _ in members) / len(members), math.fsum(y for _, y in members) / len(members)))
    return tuple(found)
