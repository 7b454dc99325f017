"""The figures of an experiment: what they show, from documents made by hand, and the files they become."""

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from cpnas_cli.errors import RunError
from cpnas_cli.reports.experiments import (
    FAMILY_LOOKS,
    accuracy_info,
    draw_accuracy,
    draw_operations,
    operations_info,
    save_figures,
)
from cpnas_cli.reports.levels import Level
from cpnas_cli.settings import load_config

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
OPERATIONS = {"sep_conv_3x3": 12, "dil_conv_5x5": 4, "max_pool_3x3": 3, "avg_pool_3x3": 2, "skip_connect": 6, "none": 1}
COUNTS = {"convolutions": 16, "pools": 5, "skips": 6, "none": 1}

Accuracies = Mapping[str, Sequence[float | None]]
"""Test accuracy of each seed's run by group; None for a run that has not finished."""


def document(accuracies: Accuracies, *overrides: str, num_seeds: int | None = None) -> dict[str, Any]:
    """The parts of `experiment.json` that a figure reads; an ablation if the groups are numbers."""
    is_ablation = all(group[0].isdecimal() for group in accuracies)
    members = []
    for group, values in accuracies.items():
        for seed, accuracy in enumerate(values):
            member = {"name": f"{group}-seed-{seed}", "group": group, "seed": seed, "state": "failed"}
            if accuracy is not None:
                member |= {"state": "finished", "accuracy_test": accuracy, "operations": dict(OPERATIONS)}
            members.append(member)
    return {
        "schema": "cpnas.experiment/1",
        "kind": "ablation" if is_ablation else "comparison",
        "groups": list(accuracies),
        "seeds": list(range(num_seeds or max(map(len, accuracies.values())))),
        "random_draws": None,
        "config": load_config(overrides=overrides).model_dump(mode="json"),
        "members": members,
    }


ABLATION = document({"0": (0.90, 0.92, 0.97), "2": (0.95, 0.96, 0.94), "5": (0.80, 0.82, 0.84)})
COMPARISON = document({"random": (0.5, 0.7), "pcdarts": (0.6, 0.6), "cpnas": (0.9, 0.8)})


def rendered(figure: Figure) -> tuple[Figure, Axes]:
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    return figure, axes


# ---------------------------------------------------------------- what the figure of accuracies shows


def test_accuracies_of_an_ablation() -> None:
    info = accuracy_info(ABLATION)
    assert info.is_scale
    assert info.title == "Accuracy over beta_P"
    assert "beta_P" in info.x_label
    assert [(group.label, group.position) for group in info.groups] == [("0", 0.0), ("2", 2.0), ("5", 5.0)]
    percents = [[90, 92, 97], [95, 96, 94], [80, 82, 84]]
    for group, values in zip(info.groups, percents, strict=True):
        assert group.values == pytest.approx(values)
        assert group.mean == pytest.approx(np.mean(values))
        assert group.deviation == pytest.approx(np.std(values, ddof=1))


def test_accuracies_of_a_comparison() -> None:
    info = accuracy_info(COMPARISON)
    assert not info.is_scale
    assert info.title == "Accuracy by search strategy"
    assert info.x_label == "search strategy"
    assert [(group.label, group.position) for group in info.groups] == [("random", 0), ("pcdarts", 1), ("cpnas", 2)]
    assert [group.values for group in info.groups] == [pytest.approx(v) for v in ((50, 70), (60, 60), (90, 80))]
    assert [group.mean for group in info.groups] == pytest.approx([60, 60, 85])
    assert [group.deviation for group in info.groups] == pytest.approx([200**0.5, 0, 50**0.5])


def test_one_run_has_no_deviation() -> None:
    (group,) = accuracy_info(document({"2": (0.875,)})).groups
    assert (group.values, group.mean, group.deviation) == ((87.5,), 87.5, None)


def test_members_that_have_not_finished_are_left_out() -> None:
    there = document({"0": (0.9, None, 0.8), "2": (None, None, None), "5": (0.7, 0.6, None)})
    there["members"][1]["state"] = "unfinished"
    # searched, so that its operations are known, but not trained
    there["members"][-1] |= {"operations": {"none": 28}, "state": "unfinished"}
    info, operations = accuracy_info(there), operations_info(there)
    assert [(group.label, group.values) for group in info.groups] == [
        ("0", pytest.approx((90, 80))),
        ("5", pytest.approx((70, 60))),
    ]
    assert [group.position for group in info.groups] == [0, 5]
    assert [(group.label, group.counts["none"]) for group in operations.groups] == [("0", (1, 0)), ("5", (1, 0))]


def test_a_strategy_keeps_its_place_when_another_has_nothing() -> None:
    info = accuracy_info(document({"random": (None,), "bnas": (0.5,), "cpnas": (0.5,)}))
    assert [(group.label, group.position) for group in info.groups] == [("bnas", 1), ("cpnas", 2)]


# ---------------------------------------------------------------- levels to judge them by


def level_lines(axes: Axes) -> list[float]:
    """Heights of the lines that go across the whole figure."""
    return [float(line.get_ydata()[0]) for line in axes.lines if list(line.get_xdata()) == [0, 1]]  # type: ignore[arg-type, index]


def test_guessing_is_drawn_where_it_is_near_and_always_said() -> None:
    """Among four classes one of four guesses is right; among a thousand the line would leave nothing of the figure."""
    near, far = (accuracy_info(COMPARISON | {"num_classes": number}) for number in (4, 1000))
    assert near.guessing == Level("guessing", 25.0)
    assert "Guessing: 25 %." in near.caption
    assert "Guessing: 0.1 %." in far.caption
    near_axes, far_axes = (rendered(draw_accuracy(info))[1] for info in (near, replace(far, groups=far.groups[2:])))
    assert level_lines(near_axes) == [25.0]
    assert [text.get_text() for text in near_axes.texts] == ["guessing\n25.0 %"]
    assert level_lines(far_axes) == []
    assert far_axes.get_ylim()[0] > 70  # as if nothing had been asked for


def test_the_mean_of_random_draws_is_a_baseline() -> None:
    there: dict[str, Any] = copy.deepcopy(COMPARISON) | {"num_classes": 2}
    for member in there["members"]:
        member["draw"] = member["seed"] if member["group"] == "random" else None
    info = accuracy_info(there)
    assert info.baseline is not None
    assert (info.baseline.name, info.baseline.accuracy) == ("random", pytest.approx(60.0))
    axes = rendered(draw_accuracy(info))[1]
    assert level_lines(axes) == pytest.approx([50.0, 60.0])
    alone = [member for member in there["members"] if member["group"] == "random"]
    assert accuracy_info(there | {"members": alone}).baseline is None


def test_a_document_of_an_older_version_has_no_level() -> None:
    info = accuracy_info(COMPARISON)
    assert (info.guessing, info.baseline) == (None, None)
    assert "Guessing" not in info.caption
    with pytest.raises(RunError, match=r"incomplete.*num_classes 'ten'"):
        accuracy_info(COMPARISON | {"num_classes": "ten"})


# ---------------------------------------------------------------- what the figure of operations shows


@pytest.mark.parametrize(
    ("there", "title", "x_label"),
    [
        (ABLATION, "Operations chosen over beta_P", "beta_P"),
        (COMPARISON, "Operations chosen by search strategy", "search strategy"),
    ],
)
def test_operations(there: dict[str, Any], title: str, x_label: str) -> None:
    info = operations_info(there)
    assert info.title == title
    assert x_label in info.x_label
    assert info.is_scale == (there is ABLATION)
    assert [group.label for group in info.groups] == there["groups"]
    assert [group.position for group in info.groups] == [group.position for group in accuracy_info(there).groups]
    for group in info.groups:
        assert group.counts == {family: (count, 0) for family, count in COUNTS.items()}


def test_operations_are_counted_by_family_and_averaged() -> None:
    there = document({"0": (0.9, 0.8, 0.7)})
    for member, operations in zip(
        there["members"],
        (
            {"sep_conv_3x3": 10, "sep_conv_5x5": 6, "skip_connect": 12},
            {"dil_conv_3x3": 1, "max_pool_3x3": 20, "avg_pool_3x3": 7},
            {"none": 26, "skip_connect": 2, "sep_conv_3x3": 0},
        ),
        strict=True,
    ):
        assert sum(operations.values()) == 28
        member["operations"] = operations
    (group,) = operations_info(there).groups
    samples = {"convolutions": [16, 1, 0], "pools": [0, 27, 0], "skips": [12, 0, 2], "none": [0, 0, 26]}
    assert group.counts == {
        family: (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
        for family, values in samples.items()
    }
    assert sum(mean for mean, _ in group.counts.values()) == pytest.approx(28)
    (single,) = operations_info(document({"0": (0.9,)})).groups
    assert [deviation for _, deviation in single.counts.values()] == [None] * 4


# ---------------------------------------------------------------- captions


def captions(there: dict[str, Any]) -> tuple[str, str]:
    found = accuracy_info(there).caption, operations_info(there).caption
    assert all(caption.isprintable() for caption in found)
    return found


def test_captions_say_what_was_measured() -> None:
    accuracy, operations = captions(document({"0": (0.9, 0.8), "2": (0.7, 0.6)}, "train.num_epochs=17"))
    assert "1-bit Child on digits, last of 17 epochs" in accuracy
    assert "Dots: single runs; bars: mean and standard deviation" in accuracy
    assert "Edges of both cells (28)" in operations
    assert "searched on digits; mean and standard deviation" in operations
    for caption in (accuracy, operations):
        assert caption.endswith(" n = 2 seeds.")


def test_a_caption_of_one_seed() -> None:
    for caption in captions(document({"0": (0.9,), "2": (0.7,)})):
        assert caption.endswith(" n = 1 seed.")


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({"0": (0.9, None, 0.8), "2": (0.7, 0.6, 0.5)}, "n = 3 seeds (runs of 0 2)."),
        ({"0": (0.9, None, None), "2": (0.7, 0.6, None)}, "n = 3 seeds (runs of 0 1, 2 2)."),
        # a group with none is not drawn, and there is no such row
        ({"0": (None, None), "2": (0.7, 0.6)}, "n = 2 seeds."),
        ({"random": (0.1, 0.2, 0.3, 0.4), "cpnas": (0.7, 0.6)}, "n = 2 seeds (runs of random 4)."),
    ],
)
def test_captions_name_groups_with_other_numbers_of_runs(accuracies: Accuracies, expected: str) -> None:
    num_seeds = 2 if "random" in accuracies else None
    for caption in captions(document(accuracies, num_seeds=num_seeds)):
        assert caption.endswith(f" {expected}")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "cifar10", "dir": "/data/some/where"}, "cifar10"),
        ({"name": "folder", "dir": "/data/my birds"}, "my birds"),
        ({"name": "folder", "dir": "/data/birds/"}, "birds"),
        ({"name": "folder", "dir": "/data/a\nb\tc"}, "a b c"),
        ({"name": "folder", "dir": None}, "folder"),
    ],
)
def test_captions_name_the_images(values: dict[str, Any], expected: str) -> None:
    there = copy.deepcopy(ABLATION)
    there["config"]["data"] |= values
    accuracy, operations = captions(there)
    assert f"Child on {expected}, last of" in accuracy
    assert f"searched on {expected};" in operations
    assert "/data" not in accuracy + operations


# ---------------------------------------------------------------- documents that cannot be drawn

Info = Callable[[Mapping[str, Any]], object]
BOTH = pytest.mark.parametrize("info", [accuracy_info, operations_info])


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(RunError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@BOTH
@pytest.mark.parametrize("accuracies", [{"0": ()}, {"0": (None,), "2": (None,)}, {"cpnas": (None, None)}])
def test_nothing_finished_is_nothing_to_draw(info: Info, accuracies: Accuracies) -> None:
    assert "no member of this experiment has finished" in refusal(lambda: info(document(accuracies, num_seeds=2)))


@BOTH
def test_members_of_no_group_are_nothing_to_draw(info: Info) -> None:
    assert "has finished" in refusal(lambda: info({**ABLATION, "groups": []}))
    assert "has finished" in refusal(lambda: info({**ABLATION, "groups": ["7"]}))


@BOTH
@pytest.mark.parametrize(
    "path",
    [
        ("kind",),
        ("groups",),
        ("members",),
        ("members", 0, "group"),
        ("members", 0, "state"),
        ("seeds",),
        ("config",),
        ("config", "data"),
    ],
)
def test_a_missing_field_is_named(info: Info, path: tuple[str | int, ...]) -> None:
    there = copy.deepcopy(ABLATION)
    parent: Any = there
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    message = refusal(lambda: info(there))
    assert "incomplete" in message
    assert repr(path[-1]) in message


@pytest.mark.parametrize(("info", "key"), [(accuracy_info, "accuracy_test"), (operations_info, "operations")])
def test_a_finished_member_without_results_is_incomplete(info: Info, key: str) -> None:
    there = copy.deepcopy(ABLATION)
    del there["members"][0][key]
    assert repr(key) in refusal(lambda: info(there))


@BOTH
@pytest.mark.parametrize(
    "change", [{"members": None}, {"groups": None}, {"members": [1]}, {"groups": ["0", "many"]}, {"members": ["text"]}]
)
def test_a_field_of_another_type_is_incomplete(info: Info, change: dict[str, Any]) -> None:
    assert "incomplete" in refusal(lambda: info({**ABLATION, **change}))


def test_a_refused_document_writes_nothing(tmp_path: Path) -> None:
    refusal(lambda: save_figures(document({"0": (None,)}), tmp_path / "figures"))
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- drawing


def dots_of(axes: Axes) -> list[list[tuple[float, float]]]:
    """(x, y) of the single runs, by group."""
    found = [item for item in axes.collections if isinstance(item, PathCollection)]
    return [[(float(x), float(y)) for x, y in np.asarray(item.get_offsets())] for item in found]


def bars_of(container: ErrorbarContainer) -> list[tuple[float, float]]:
    """Lower and upper end of every error bar."""
    (lines,) = container.lines[2]
    return [(float(segment[0][1]), float(segment[1][1])) for segment in map(np.asarray, lines.get_segments())]


@pytest.mark.parametrize("there", [ABLATION, COMPARISON], ids=["ablation", "comparison"])
def test_every_run_is_a_dot_and_every_group_a_mean(there: dict[str, Any]) -> None:
    info = accuracy_info(there)
    figure, axes = rendered(draw_accuracy(info))
    dots = dots_of(axes)
    step = 2.0 if info.is_scale else 1.0  # between the nearest groups
    assert [[y for _, y in group] for group in dots] == [pytest.approx(group.values) for group in info.groups]
    for group, points in zip(info.groups, dots, strict=True):
        xs = [x for x, _ in points]
        assert len(set(xs)) == len(xs)  # equal accuracies do not hide each other
        assert all(abs(x - group.position) < step / 2 for x in xs)
    (container,) = (item for item in axes.containers if isinstance(item, ErrorbarContainer))
    means = container.lines[0]
    np.testing.assert_allclose(np.asarray(means.get_ydata(), dtype=float), [group.mean for group in info.groups])
    assert (means.get_linestyle() == "-") == info.is_scale  # strategies have no order to join
    assert bars_of(container) == [
        pytest.approx((group.mean - (group.deviation or 0), group.mean + (group.deviation or 0)))
        for group in info.groups
    ]
    assert axes.get_ylabel() == "test accuracy of the 1-bit Child (%)"
    assert [label.get_text() for label in axes.get_xticklabels()] == there["groups"]
    low, high = axes.get_xlim()
    assert all(low < x < high for points in dots for x, _ in points)
    assert info.caption.split() == figure.get_supxlabel().split()
    assert figure.get_suptitle() == info.title
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["single run", "mean ± standard deviation"]


@pytest.mark.parametrize("there", [ABLATION, COMPARISON], ids=["ablation", "comparison"])
def test_every_family_has_its_colour_and_marker(there: dict[str, Any]) -> None:
    info = operations_info(there)
    _, axes = rendered(draw_operations(info))
    containers = [item for item in axes.containers if isinstance(item, ErrorbarContainer)]
    assert len(containers) == 4
    for container, (family, look) in zip(containers, FAMILY_LOOKS.items(), strict=True):
        line = container.lines[0]
        assert container.get_label() == family
        assert (to_hex(line.get_color()), line.get_marker()) == (look.colour, look.marker)
        assert (line.get_linestyle() == "-") == info.is_scale
        np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), [COUNTS[family]] * len(info.groups))
    assert len({look.colour for look in FAMILY_LOOKS.values()}) == len({x.marker for x in FAMILY_LOOKS.values()}) == 4
    assert axes.get_ylabel() == "edges (of 28)"
    assert axes.get_ylim()[0] == 0
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(FAMILY_LOOKS)


def both_indicators() -> dict[str, Any]:
    """At beta_P 0, 1 and 5; each run's accuracy tells its group and seed."""
    groups = {
        f"{name} {beta}": (start + beta / 100, start + beta / 100 + 0.02)
        for name, start in (("penalized", 0.8), ("printed", 0.5))
        for beta in (0, 1, 5)
    }
    there = {**document(groups), "kind": "ablation"}
    for member in there["members"]:
        member |= {"indicator": member["group"].split()[0], "beta_p": float(member["group"].split()[1])}
    return there


def test_two_indicators_are_two_series_of_one_figure() -> None:
    info, operations = accuracy_info(both_indicators()), operations_info(both_indicators())
    expected = [(name, beta) for name in ("penalized", "printed") for beta in (0, 1, 5)]
    for groups in (info.groups, operations.groups):
        assert [(group.series, group.position, group.label) for group in groups] == [
            (n, b, str(b)) for n, b in expected
        ]
    assert "Indicator: penalized and printed." in info.caption
    figure, axes = rendered(draw_accuracy(info))
    containers = [item for item in axes.containers if isinstance(item, ErrorbarContainer)]
    means = [np.asarray(item.lines[0].get_ydata(), dtype=float) for item in containers]
    np.testing.assert_allclose(means, [[81, 82, 86], [51, 52, 56]])
    assert len({(item.lines[0].get_marker(), item.lines[0].get_color()) for item in containers}) == 2
    for index, points in enumerate(dots_of(axes)):  # near their beta, each series on its side of it
        side = -1 if index < 3 else 1
        assert all(0 < side * (x - expected[index][1]) < 0.5 for x, _ in points)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "5"]
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["penalized", "printed"]
    figure, axes = rendered(draw_operations(operations))
    lines = [item.lines[0] for item in axes.containers if isinstance(item, ErrorbarContainer)]
    assert len(lines) == 8
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 8
    assert [line.get_linestyle() for line in lines] == ["-"] * 4 + [":"] * 4
    assert "Filled, with lines: penalized; hollow, dotted: printed." in operations.caption
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(FAMILY_LOOKS)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([{"indicator": "penalized", "beta_p": 2.0}, {"indicator": None, "beta_p": 0.0}], "Indicator: penalized. "),
        ([{"beta_p": 0.0}, {"beta_p": 2.0}], "Indicator: printed. "),  # of an older version
        ([{"beta_p": None}, {"beta_p": 0.0}], ""),
    ],
)
def test_the_caption_says_which_indicator(members: list[dict[str, Any]], expected: str) -> None:
    there = copy.deepcopy(COMPARISON)
    there["members"] = [{**there["members"][0], **member} for member in members]
    caption = accuracy_info(there).caption
    assert (expected in caption) if expected else ("Indicator" not in caption)


@pytest.mark.parametrize(
    "there",
    [
        document({"2": (0.9,)}),
        document({"cpnas": (0.9,)}),
        document({"2.5": (0.9, 0.9, 0.9)}),
        document({"5": (0.0, 1.0), "0": (1.0, 0.0), "0.001": (0.5, 0.5)}),
        document({str(beta): (beta / 20, None) for beta in range(20)}),
    ],
    ids=["one beta", "one strategy", "equal accuracies", "unordered betas", "twenty betas"],
)
def test_small_and_large_experiments_are_drawn_without_a_warning(there: dict[str, Any]) -> None:
    """Warnings are errors here; a bar without a deviation has no length."""
    info = accuracy_info(there)
    _, axes = rendered(draw_accuracy(info))
    (container,) = (item for item in axes.containers if isinstance(item, ErrorbarContainer))
    for group, (low, high) in zip(info.groups, bars_of(container), strict=True):
        assert (high - low) / 2 == pytest.approx(group.deviation or 0, abs=1e-9)
    assert sum(map(len, dots_of(axes))) == sum(len(group.values) for group in info.groups)
    low, high = axes.get_xlim()
    assert all(low < group.position < high for group in info.groups)
    rendered(draw_operations(operations_info(there)))


@pytest.mark.parametrize(
    "draw", [lambda there: draw_accuracy(accuracy_info(there)), lambda there: draw_operations(operations_info(there))]
)
def test_the_legend_is_not_over_the_title(draw: Callable[[dict[str, Any]], Figure]) -> None:
    """They stand below each other, the title first; or beside."""
    figure, axes = rendered(draw(COMPARISON))
    (title,) = (text for text in figure.texts if text.get_fontweight() == "bold")
    legends = [*figure.legends, *filter(None, [axes.get_legend()])]
    (legend,) = (each.get_window_extent() for each in legends)
    above = title.get_window_extent()
    assert above.y0 >= legend.y1 - 2 or above.x1 <= legend.x0


def test_the_caption_is_inside_the_figure() -> None:
    there = document({group: (0.5,) * count for count, group in enumerate(("random", "pcdarts", "bnas", "cpnas"), 1)})
    for figure, axes in (
        rendered(draw_accuracy(accuracy_info(there))),
        rendered(draw_operations(operations_info(there))),
    ):
        canvas = figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        caption = next(text for text in figure.texts if text.get_text() == figure.get_supxlabel())
        box = caption.get_window_extent(canvas.get_renderer())
        width, height = canvas.get_width_height()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
        assert box.y1 <= axes.xaxis.label.get_window_extent(canvas.get_renderer()).y1


def in_folder(name: str) -> dict[str, Any]:
    there = copy.deepcopy(ABLATION)
    there["config"]["data"] |= {"name": "folder", "dir": f"/data/{name}"}
    return there


@pytest.mark.parametrize(
    "name",
    [
        "x^2_b",
        "a\\b",
        "a$_{$b",
        "5$ and 6$",
    ],
)
def test_a_folder_of_any_name_is_drawn_as_it_is(name: str) -> None:
    figure, _ = rendered(draw_accuracy(accuracy_info(in_folder(name))))
    caption = next(text for text in figure.texts if text.get_text() == figure.get_supxlabel())
    assert name in " ".join(caption.get_text().split())
    assert name.count("$") < 2 or not caption.get_parse_math()


def test_what_the_font_lacks_is_drawn_as_a_question_mark() -> None:
    figure, _ = rendered(draw_accuracy(accuracy_info(in_folder("a鳥b"))))
    assert "on a?b, last of" in figure.get_supxlabel()


# ---------------------------------------------------------------- files


def words_of(svg: Path) -> str:
    """All text of an SVG, in the order of the file."""
    found = [element.text or "" for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    return " ".join(" ".join(found).split())


@pytest.mark.parametrize("there", [ABLATION, COMPARISON], ids=["ablation", "comparison"])
def test_the_files(there: dict[str, Any], tmp_path: Path) -> None:
    """Four, the same bytes each time, from a document that has been through JSON; labels are text in an SVG."""
    names = ["accuracy.svg", "accuracy.png", "operations.svg", "operations.png"]
    first, second = tmp_path / "new" / "first", tmp_path / "second"
    assert save_figures(there, first) == [first / name for name in names]
    save_figures(json.loads(json.dumps(there)), second)
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
        assert name.endswith("svg") or (first / name).read_bytes().startswith(PNG_MAGIC)
    assert sorted(path.name for path in first.iterdir()) == sorted(names)
    accuracy, operations = accuracy_info(there), operations_info(there)
    for words, labels in (
        (words_of(first / "accuracy.svg"), ["test accuracy of the 1-bit Child (%)", accuracy.title, accuracy.x_label]),
        (words_of(first / "operations.svg"), ["edges (of 28)", operations.title, operations.x_label, *COUNTS]),
    ):
        assert all(label in words for label in [*labels, *there["groups"]])
    assert accuracy.caption in words_of(first / "accuracy.svg")
    assert operations.caption in words_of(first / "operations.svg")


def test_other_results_are_another_picture(tmp_path: Path) -> None:
    there = document({"0": (0.5,)})
    other = copy.deepcopy(there)
    other["members"][0] |= {"accuracy_test": 0.6, "operations": {"none": 28}}
    save_figures(there, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    save_figures(other, tmp_path)  # in place of the old ones
    assert set(tmp_path.iterdir()) == before.keys()
    assert all(path.read_bytes() != content for path, content in before.items())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot write" in refusal(lambda: save_figures(document({"0": (0.5,)}), tmp_path / "file"))
