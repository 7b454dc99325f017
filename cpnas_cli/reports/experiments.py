"""The figures of an experiment: accuracies, and the operations chosen. From `experiment.json` alone.

What a figure shows (`accuracy_info`, `operations_info`) and how it is drawn are two functions.
"""

import contextlib
import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from cpnas_cli.errors import RunError
from cpnas_cli.experiments.summary import family_counts, mean_and_deviation
from cpnas_cli.networks.operations.base import FAMILIES
from cpnas_cli.reports.levels import SOFT_INK, Level, draw_levels, guessing_level, in_words
from cpnas_cli.reports.picture import save_picture
from cpnas_cli.search_space import NUM_EDGES

WIDTH, HEIGHT = 6.4, 4.2  # inches
DPI = 200
FONT = "DejaVu Sans"  # comes with matplotlib
LOOK = {
    "font.size": 9,
    "font.family": [FONT],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
}
INK = "#1a1a1a"
DOT, MEAN = "#0072b2", "#d55e00"  # of the palette of Okabe and Ito, told apart by the colour-blind
CAPTION_COLUMNS = 104


@dataclass(frozen=True)
class FamilyLook:
    """Colour and marker: each tells the family without the other."""

    colour: str
    marker: str


FAMILY_LOOKS = {
    "convolutions": FamilyLook("#0072b2", "o"),
    "pools": FamilyLook("#e69f00", "s"),
    "skips": FamilyLook("#009e73", "^"),
    "none": FamilyLook("#555555", "D"),
}
assert tuple(FAMILY_LOOKS) == FAMILIES


@dataclass(frozen=True)
class SeriesLook:
    """Of the means of a series, and of its single runs where there are several; the marker tells it without colours."""

    colour: str
    marker: str


SERIES_LOOKS = (SeriesLook(MEAN, "D"), SeriesLook("#009e73", "s"))


@dataclass(frozen=True)
class GroupAccuracy:
    """One beta_P or strategy: test accuracies of its runs in percent, their mean and deviation.

    Attributes:
      series: the indicator, where several are compared.
    """

    label: str
    position: float
    values: tuple[float, ...]
    mean: float
    deviation: float | None
    series: str = ""


@dataclass(frozen=True)
class AccuracyInfo:
    """What the figure of accuracies shows.

    Attributes:
      is_scale: whether the positions are values on a scale (beta_P), which a line may join.
      guessing: None where it is not known. baseline: the mean of the group that draws without searching, if there is
        one beside others.
    """

    title: str
    x_label: str
    is_scale: bool
    groups: tuple[GroupAccuracy, ...]
    caption: str
    guessing: Level | None = None
    baseline: Level | None = None


@dataclass(frozen=True)
class GroupOperations:
    """Mean number of edges (of 28) per family, and its deviation; see `GroupAccuracy`."""

    label: str
    position: float
    counts: dict[str, tuple[float, float | None]]
    series: str = ""


@dataclass(frozen=True)
class OperationsInfo:
    """What the figure of operations shows; see `AccuracyInfo`."""

    title: str
    x_label: str
    is_scale: bool
    groups: tuple[GroupOperations, ...]
    caption: str


Group = TypeVar("Group", GroupAccuracy, GroupOperations)


def accuracy_info(document: Mapping[str, Any]) -> AccuracyInfo:
    """Every finished run of the experiment, by group.

    Raises:
      RunError: no run has finished, or the document is incomplete.
    """
    with _complete():
        return _accuracy_info(document)


def _accuracy_info(document: Mapping[str, Any]) -> AccuracyInfo:
    rows = _finished_by_group(document)
    groups = []
    for row in rows:
        values = tuple(100 * member["accuracy_test"] for member in row.members)
        groups.append(GroupAccuracy(row.label, row.position, values, *mean_and_deviation(values), row.series))
    is_scale, guessing = document["kind"] == "ablation", guessing_level(document)
    title = "Accuracy over beta_P" if is_scale else "Accuracy by search strategy"
    caption = (
        f"Test accuracy of the 1-bit Child on {data_name(document)}, last of {_num_epochs(document)} epochs. Dots: "
        f"single runs; bars: mean and standard deviation. {in_words(guessing)}{_indicator(document)}"
        f"{_sizes(document, rows)}"
    )
    drawn = [Level(row.label, group.mean) for row, group in zip(rows, groups, strict=True) if row.is_drawn]
    return AccuracyInfo(
        title,
        _x_label(document),
        is_scale,
        tuple(groups),
        caption,
        guessing,
        drawn[0] if drawn and len(groups) > 1 else None,
    )


def operations_info(document: Mapping[str, Any]) -> OperationsInfo:
    """How many edges each family of operations got.

    Raises:
      RunError: see `accuracy_info`.
    """
    with _complete():
        return _operations_info(document)


def _operations_info(document: Mapping[str, Any]) -> OperationsInfo:
    rows = _finished_by_group(document)
    groups = []
    for row in rows:
        counts = [family_counts(member["operations"]) for member in row.members]
        means = {family: mean_and_deviation([float(count[family]) for count in counts]) for family in FAMILIES}
        groups.append(GroupOperations(row.label, row.position, means, row.series))
    is_scale = document["kind"] == "ablation"
    title = "Operations chosen over beta_P" if is_scale else "Operations chosen by search strategy"
    caption = (
        f"Edges of both cells ({2 * NUM_EDGES}) by what they became, searched on {data_name(document)}; mean and "
        f"standard deviation. {_indicator(document)}{_lines(rows)}{_sizes(document, rows)}"
    )
    return OperationsInfo(title, _x_label(document), is_scale, tuple(groups), caption)


@contextlib.contextmanager
def _complete() -> Iterator[None]:
    """A document in which something is missing or of another kind is one line, not a traceback."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"the experiment's document is incomplete ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class _Row:
    """The finished members of a group, and where it stands."""

    position: float
    label: str
    series: str
    members: list[Mapping[str, Any]]

    @property
    def is_drawn(self) -> bool:
        """Whether its genotypes are draws that no search has chosen."""
        return all(member.get("draw") is not None for member in self.members)


def _finished_by_group(document: Mapping[str, Any]) -> list[_Row]:
    """Every group that has finished members."""
    rows = []
    for index, group in enumerate(document["groups"]):
        members = [m for m in document["members"] if m["group"] == group and m["state"] == "finished"]
        series, _, label = group.rpartition(" ") if document["kind"] == "ablation" else ("", "", group)
        position = float(label) if document["kind"] == "ablation" else float(index)
        if not math.isfinite(position):
            raise ValueError(f"group {group}")
        if members:
            rows.append(_Row(position, label, series, members))
    if not rows:
        raise RunError("no member of this experiment has finished; there is nothing to draw")
    return rows


def _x_label(document: Mapping[str, Any]) -> str:
    return "beta_P, the weight of the Parent's lead (4.15)" if document["kind"] == "ablation" else "search strategy"


def _indicator(document: Mapping[str, Any]) -> str:
    """ "Indicator: penalized. "; "" where no search has one."""
    names = dict.fromkeys(map(indicator_of, document["members"]))
    names.pop(None, None)
    return f"Indicator: {' and '.join(map(str, names))}. " if names else ""


def _lines(rows: Sequence[_Row]) -> str:
    """Which line is whose, where there are two of a family."""
    first, *others = dict.fromkeys(row.series for row in rows)
    return f"Filled, with lines: {first}; hollow, dotted: {others[0]}. " if others else ""


def indicator_of(member: Mapping[str, Any]) -> str | None:
    """Of a member of an experiment; of one of an older version the printed one, if it had a Parent."""
    return member.get("indicator", "printed" if member.get("beta_p") else None)


def data_name(document: Mapping[str, Any]) -> str:
    """The data set, or the folder of the images, in characters that can be drawn."""
    data = document["config"]["data"]
    name = data["name"]
    if name == "folder" and data["dir"]:
        name = Path(data["dir"]).resolve().name or name
    font = get_font(findfont(FONT))
    printable = (char if char.isprintable() else " " for char in name)
    return "".join(char if font.get_char_index(ord(char)) else "?" for char in printable)


def _num_epochs(document: Mapping[str, Any]) -> int:
    return document["config"]["train"]["num_epochs"]


def _sizes(document: Mapping[str, Any], rows: Sequence[_Row]) -> str:
    """n: seeds, and runs where a group has more or fewer of them."""
    num_seeds = len(document["seeds"])
    different = [
        f"{row.series} {row.label}".strip() + f" {len(row.members)}" for row in rows if len(row.members) != num_seeds
    ]
    runs = f" (runs of {', '.join(different)})" if different else ""
    return f"n = {num_seeds} {'seed' if num_seeds == 1 else 'seeds'}{runs}."


def draw_accuracy(info: AccuracyInfo) -> Figure:
    figure, axes = _frame(info.title, info.x_label, "test accuracy of the 1-bit Child (%)", info.caption)
    _label_groups(axes, info)
    step = _step([group.position for group in info.groups])
    series = _series(info.groups)
    alone = len(series) == 1
    for index, (name, groups) in enumerate(series.items()):
        look = SERIES_LOOKS[index % len(SERIES_LOOKS)]
        beside = 0.0 if alone else 0.36 * step * (index / (len(series) - 1) - 0.5)
        shift = 0.12 * step / len(series)
        for group in groups:
            spread = _spread(len(group.values), 0.16 * step / len(series))
            axes.scatter(
                [group.position + beside - shift + offset for offset in spread],
                group.values,
                s=20,
                color=DOT if alone else look.colour,  # a run is known by the colour of its series
                alpha=0.75 if alone else 0.45,
                linewidths=0,
                label="single run" if alone and group is groups[0] else None,
            )
        axes.errorbar(
            [group.position + beside + shift for group in groups],
            [group.mean for group in groups],
            yerr=[group.deviation or 0.0 for group in groups],
            fmt=f"{look.marker}-" if info.is_scale else look.marker,
            color=look.colour,
            markersize=5,
            linewidth=1.0,
            elinewidth=1.6,
            capsize=4,
            label=name or "mean ± standard deviation",
        )
    draw_levels(axes, (info.guessing, info.baseline))
    figure.legend(loc="outside upper right", frameon=False, ncols=2, fontsize=8)
    return figure


def draw_operations(info: OperationsInfo) -> Figure:
    figure, axes = _frame(info.title, info.x_label, f"edges (of {2 * NUM_EDGES})", info.caption)
    _label_groups(axes, info)
    step = _step([group.position for group in info.groups])
    series = _series(info.groups)
    looks = [(name, family) for name in series for family in FAMILIES]
    for index, (name, family) in enumerate(looks):
        groups, look = series[name], FAMILY_LOOKS[family]
        shift = (index - (len(looks) - 1) / 2) * 0.44 * step / len(looks)
        is_first = name == next(iter(series))
        drawn = axes.errorbar(
            [group.position + shift for group in groups],
            [group.counts[family][0] for group in groups],
            yerr=[group.counts[family][1] or 0.0 for group in groups],
            fmt=f"{look.marker}{('-' if is_first else ':') if info.is_scale else ''}",
            color=look.colour,
            markerfacecolor=look.colour if is_first else "white",
            markersize=5,
            linewidth=1.0,
            elinewidth=1.3,
            capsize=3,
            label=family if is_first else None,
        )
        drawn.lines[0].set_clip_on(False)  # a marker at 0 is seen whole, a bar ends there
    axes.set_ylim(bottom=0)
    # above the axes, not the figure: four families are as wide as the title and would stand over it
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=4, fontsize=8)
    return figure


def _series(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups by their indicators; all of them in one where none is named."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.series, []).append(group)
    return found


def _frame(title: str, x_label: str, y_label: str, caption: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_ylabel(y_label)
    lines = "\n".join(wrapped(caption, CAPTION_COLUMNS))
    axes.set_xlabel(f"{x_label}\n")
    # a folder's name may hold a $
    figure.supxlabel(lines, x=0.01, ha="left", fontsize=7.5, color=SOFT_INK, parse_math=False)
    return figure, axes


def wrapped(text: str, columns: int) -> list[str]:
    """The lines of a caption."""
    return textwrap.wrap(text, columns)


def _label_groups(axes: Axes, info: AccuracyInfo | OperationsInfo) -> None:
    labels = {group.position: group.label for group in info.groups}  # several series have one label
    positions = list(labels)
    axes.set_xticks(positions, list(labels.values()))
    margin = 0.5 * _step(positions)
    axes.set_xlim(min(positions) - margin, max(positions) + margin)


def _step(positions: Sequence[float]) -> float:
    """The smallest distance between two groups."""
    ordered = sorted(set(positions))
    return min((b - a for a, b in itertools.pairwise(ordered)), default=1.0)


def _spread(count: int, width: float) -> list[float]:
    """Equal distances around 0, so that equal accuracies do not hide each other."""
    if count == 1:
        return [0.0]
    return [width * (index / (count - 1) - 0.5) for index in range(count)]


def save_figures(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write accuracy and operations as SVG and PNG into the folder; returns the files.

    Raises:
      RunError: nothing has finished, or a file cannot be written.
    """
    accuracy, operations = accuracy_info(document), operations_info(document)
    files = []
    for name, draw in (
        ("accuracy", lambda: draw_accuracy(accuracy)),
        ("operations", lambda: draw_operations(operations)),
    ):
        for suffix in (".svg", ".png"):
            files.append(folder / f"{name}{suffix}")
            save_picture(draw, files[-1], salt=f"cpnas {name}", dpi=DPI, look=LOOK)
    return files
