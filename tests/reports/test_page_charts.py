"""Charts as SVG: where points stand, what is left out of many, and round numbers at the side."""

import math
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpnas_cli.reports.page.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Mark,
    Series,
    chart_svg,
    draw,
    means,
    series,
    spaced,
    thinned,
    ticks,
)

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def parsed(chart: Chart, size: tuple[int, int] = (360, 230)) -> ElementTree.Element:
    return ElementTree.fromstring(str(chart_svg(chart, name="c", size=size)))


def points_of(svg: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """Of every series its points, in pixels."""
    paths = [path for path in svg.iter("path") if "series" in path.attrib["class"]]
    return [[(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"])] for path in paths]


def test_points_stand_where_their_values_are() -> None:
    """By the ticks that the picture itself shows: two of them give the scale."""
    values = (0.2, 0.65, 0.4)
    svg = parsed(Chart("t", "epoch", (series("a", values, look=1),), is_percent=True))
    labels = {
        float(text.text.rstrip("%")) / 100: float(text.attrib["y"]) - 3.5
        for text in svg.iter("text")
        if text.text and text.text.endswith("%")
    }
    (low, y_low), (high, y_high) = min(labels.items()), max(labels.items())
    assert low <= 0.2 < 0.65 <= high
    (found,) = points_of(svg)
    for (_, y), value in zip(found, values, strict=True):
        assert y == pytest.approx(y_low + (value - low) / (high - low) * (y_high - y_low), abs=0.1)
    assert [x for x, _ in found] == [LEFT, (LEFT + 360 - RIGHT) / 2, 360 - RIGHT]


@PATIENT
@given(st.lists(st.lists(FINITE, max_size=30), min_size=1, max_size=3))
def test_every_point_is_inside(values: list[list[float]]) -> None:
    chart = Chart("t", "x", tuple(series(f"s{index}", each, look=1) for index, each in enumerate(values)))
    found = points_of(parsed(chart))
    assert [len(each) for each in found] == [len(each) for each in values if each]
    for x, y in (point for each in found for point in each):
        assert LEFT - 0.1 <= x <= 360 - RIGHT + 0.1
        assert TOP - 0.1 <= y <= 230 - BOTTOM + 0.1


def test_what_is_no_number_is_left_out() -> None:
    found = series("a", [1, None, math.nan, math.inf, True, "x", 2.5], look=1, first=1)
    assert found.points == ((1.0, 1.0), (7.0, 2.5))


def test_nothing_to_draw() -> None:
    assert "nothing to draw yet" in str(chart_svg(Chart("t", "x", (Series("a", (), 1),)), name="c", size=(360, 230)))


@PATIENT
@given(st.lists(FINITE, max_size=200), st.integers(2, 40))
def test_of_many_points_the_extremes_stay(values: list[float], most: int) -> None:
    points = [(float(place), value) for place, value in enumerate(values)]
    kept = thinned(points, most)
    assert len(kept) <= max(most, 2)
    assert list(kept) == [point for point in points if point in set(kept)]  # in their order, none twice
    if points:
        assert min(y for _, y in kept) == min(values)
        assert max(y for _, y in kept) == max(values)


def test_few_points_stay_all() -> None:
    points = [(float(place), random.Random(place).random()) for place in range(50)]
    assert thinned(points, 50) == tuple(points)


@PATIENT
@given(FINITE, FINITE, st.integers(2, 12))
def test_ticks_are_round_and_hold_all(one: float, other: float, most: int) -> None:
    low, high = min(one, other), max(one, other)
    found = ticks(low, high, most=most)
    step = found[1] - found[0]
    assert 2 <= len(found) <= most + 1
    assert found[0] <= low + 1e-6 * step
    assert high - 1e-6 * step <= found[-1]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
    assert min(abs(mantissa - round_) for round_ in (1, 2, 2.5, 5)) < 1e-3


def test_texts_are_escaped_and_seen() -> None:
    chart = Chart("<b>&", "\x1b\u202e", (series('"', [1, 2], look=1),), marks=(Mark(1, "<i>"),), level=(1, "<u>"))
    texts = ["".join(each.itertext()) for each in parsed(chart).iter() if each.tag in ("text", "title", "desc")]
    assert "<b>&" in texts
    assert r"\x1b\u202e" in texts
    assert {"<i>", "<u>"} <= set(texts)


def test_two_forms_have_names_of_their_own() -> None:
    drawing = draw(Chart("t", "x", (series("a", [1, 2], look=1),)), name="n", wide=True)
    names = [set(re.findall(r'\bid="([^"]+)"', str(svg))) for svg in (drawing.svg, drawing.narrow)]
    assert not names[0] & names[1]
    assert all(len(each) == 2 for each in names)


def test_labels_of_marks_keep_apart() -> None:
    marks = [Mark(x, str(x)) for x in (0, 1, 2, 5, 6)]
    assert [mark.label for mark in spaced(marks, least=2)] == ["0", "", "2", "5", ""]
    assert [mark.x for mark in spaced(marks, least=2)] == [0, 1, 2, 5, 6]


def test_means_of_runs_of_equal_keys() -> None:
    points = [("a", (1.0, 1.0)), ("a", (2.0, 3.0)), ("b", (3.0, 5.0)), ("a", (4.0, 7.0))]
    assert means(points) == ((1.5, 2.0), (3.0, 5.0), (4.0, 7.0))


@pytest.mark.parametrize(
    ("values", "is_drawn"),
    [([0.3, 0.98], True), ([0.9, 0.98], False), ([0.05, 0.2], True), ([0.1, 0.1], True)],
)
def test_a_level_that_would_squash_what_is_seen_is_left_out(values: list[float], is_drawn: bool) -> None:
    """Guessing gives 10 %; accuracies from 90 to 98 % would have a tenth of the height above it."""
    chart = Chart("t", "x", (series("a", values, look=1),), is_percent=True, level=(0.1, "guessing"))
    svg = parsed(chart)
    assert ("guessing" in [text.text for text in svg.iter("text")]) == is_drawn
    (points,) = points_of(svg)
    heights = [y for _, y in points]
    if not is_drawn:
        assert max(heights) - min(heights) > 0.5 * (230 - TOP - BOTTOM)
