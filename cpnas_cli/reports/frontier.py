"""The figure of a frontier: accuracy over bytes and over measured time. From `frontier.json` alone.

What it shows (`frontier_info`) and how it is drawn (`draw_frontier`) are two functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cpnas_cli.deploy.deployed import FAMILIES
from cpnas_cli.errors import RunError
from cpnas_cli.reports.experiments import DPI, INK, LOOK, FamilyLook, data_name, wrapped
from cpnas_cli.reports.levels import SOFT_INK, Level, draw_levels, guessing_level, in_words
from cpnas_cli.reports.picture import save_picture

WIDTH, HEIGHT = 9.6, 4.4  # inches
CAPTION_COLUMNS = 156

# Of the palette of Okabe and Ito, told apart by the colour-blind; the markers tell them apart without colours.
LOOKS: dict[str, FamilyLook] = dict(
    zip(
        FAMILIES,
        (
            FamilyLook("#d55e00", "o"),
            FamilyLook("#0072b2", "s"),
            FamilyLook("#56b4e9", "D"),
            FamilyLook("#009e73", "^"),
            FamilyLook("#555555", "v"),
        ),
        strict=True,
    )
)


@dataclass(frozen=True)
class FrontierPoint:
    """A network: accuracy in percent, mean and deviation over seeds; KiB; milliseconds, None where not measured."""

    accuracy: float
    deviation: float | None
    kibibytes: float
    milliseconds: float | None


@dataclass(frozen=True)
class FrontierInfo:
    """What the figure shows: the points of each family, from the smallest to the largest, and what is said below.

    Attributes:
      guessing: None where it is not known.
    """

    families: Mapping[str, tuple[FrontierPoint, ...]]
    caption: str
    advice: str
    guessing: Level | None = None


def frontier_info(document: Mapping[str, Any]) -> FrontierInfo:
    """
    Raises:
      RunError: no member has finished, or the document is incomplete.
    """
    try:
        families: dict[str, list[FrontierPoint]] = {}
        for point in document["points"]:
            families.setdefault(point["family"], []).append(_point(point))
        unknown = families.keys() - set(FAMILIES)
        if unknown:
            raise ValueError(f"unknown families {sorted(unknown)}")
        guessing = guessing_level(document)
        caption = (
            f"Test accuracy on {data_name(document)}, last of {document['config']['train']['num_epochs']} epochs; mean "
            f"and standard deviation, n = {len(document['seeds'])}. {in_words(guessing)}Size: of the weights, "
            "without the file's header or graph. Time: one image, one thread, median."
        )
        advice = str(document["advice"]["sentence"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"the frontier's document is incomplete ({type(error).__name__}: {error})") from None
    if not families:
        raise RunError("no member of this frontier has finished; there is nothing to draw")
    ordered = {
        name: tuple(sorted(families[name], key=lambda point: point.kibibytes)) for name in FAMILIES if name in families
    }
    return FrontierInfo(ordered, caption, advice, guessing)


def _point(point: Mapping[str, Any]) -> FrontierPoint:
    deviation, seconds = point["accuracy_test_std"], point["seconds_median"]
    return FrontierPoint(
        100 * point["accuracy_test_mean"],
        None if deviation is None else 100 * deviation,
        point["bytes"] / 1024,
        None if seconds is None else 1e3 * seconds,
    )


def draw_frontier(info: FrontierInfo) -> Figure:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    by_size, by_time = figure.subplots(1, 2, sharey=True)
    figure.suptitle(
        "Is 1 bit worth it?",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
        color=INK,
    )
    for family, points in info.families.items():
        _draw(by_size, family, [(point.kibibytes, point) for point in points])
        timed = [(point.milliseconds, point) for point in points if point.milliseconds is not None]
        _draw(by_time, family, timed)
    by_size.set_ylabel("test accuracy (%)")
    by_size.set_xlabel("size (KiB)\n")
    by_time.set_xlabel("time for one image (ms)\n")
    for axes in (by_size, by_time):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, axis="x")
        draw_levels(axes, (info.guessing,), named=axes is by_time)  # which has the same accuracies
    handles, labels = by_size.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", frameon=False, ncols=len(labels), fontsize=8)
    text = "\n".join([*wrapped(info.advice, CAPTION_COLUMNS), *wrapped(info.caption, CAPTION_COLUMNS)])
    # a folder's name may hold a $
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7.5, color=SOFT_INK, parse_math=False)
    return figure


def _draw(axes: Axes, family: str, points: list[tuple[float, FrontierPoint]]) -> None:
    look = LOOKS[family]
    axes.errorbar(
        [x for x, _ in points],
        [point.accuracy for _, point in points],
        yerr=[point.deviation or 0.0 for _, point in points],
        fmt=f"{look.marker}-",
        color=look.colour,
        markersize=5,
        linewidth=1.0,
        elinewidth=1.3,
        capsize=3,
        label=family,
    )


def save_frontier(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the figure as SVG and PNG into the folder; returns the files.

    Raises:
      RunError: see `frontier_info`, or a file cannot be written.
    """
    info = frontier_info(document)
    files = [folder / f"frontier{suffix}" for suffix in (".svg", ".png")]
    for file in files:
        save_picture(lambda: draw_frontier(info), file, salt="cpnas frontier", dpi=DPI, look=LOOK)
    return files
