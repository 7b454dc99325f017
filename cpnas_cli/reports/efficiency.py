"""The figure of a measurement: estimated and measured speed-up of every operation. From `measurement.json` alone."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cpnas_cli.errors import RunError
from cpnas_cli.reports.experiments import CAPTION_COLUMNS, DOT, DPI, INK, LOOK, MEAN, SOFT_INK
from cpnas_cli.reports.picture import save_picture

WIDTH, ROW_HEIGHT, EXTRA_HEIGHT = 6.8, 0.19, 1.5  # inches


@dataclass(frozen=True)
class Speedup:
    """Of one operation at one shape.

    Attributes:
      estimated: None where nothing is multiplied.
      measured: against ONNX Runtime's float32; None below the noise.
      fastest: against the fastest runtime; None below the noise, and where there was one only.
    """

    label: str
    estimated: float | None
    measured: float | None
    fastest: float | None = None


@dataclass(frozen=True)
class SpeedupsInfo:
    rows: tuple[Speedup, ...]
    caption: str


def speedups_info(document: Mapping[str, Any]) -> SpeedupsInfo:
    """
    Raises:
      RunError: the document is incomplete.
    """
    try:
        rows = tuple(
            Speedup(
                f"{row['operation']}  {row['in_channels']} to {row['out_channels']}, {row['in_size']}x{row['in_size']}"
                + (f" /{row['stride']}" if row["stride"] > 1 else ""),
                row["speedup_estimated"],
                row["speedup_measured"],
                row.get("speedup_fastest") if _has_openvino(row) else None,
            )
            for row in document["operations"]
        )
        caption = (
            f"1-bit against float32 in ONNX Runtime, {document['environment']['device_name']}, one thread, batch 1; "
            f"medians of {document['repetitions']} repetitions. {_whole_network(document)}"
            "Estimated: S of XNOR-Net, summed over the operation's layers; pooling has none."
        )
    except (KeyError, StopIteration, TypeError) as error:
        raise RunError(f"the measurement is incomplete ({error!r}); measure again") from None
    return SpeedupsInfo(rows, caption)


def _has_openvino(row: Mapping[str, Any]) -> bool:
    return any(row.get(f"seconds_openvino_{precision}") for precision in ("float32", "bfloat16"))


def _whole_network(document: Mapping[str, Any]) -> str:
    """A sentence, where it was measured on one thread and one image.

    Raises:
      StopIteration: there is no comparison of times.
    """
    savings = (row for row in document["comparison"] if row["saving"].startswith("time"))
    whole = next(row["measured"] for row in savings if "ONNX Runtime" in row["saving"] and "float32" in row["saving"])
    if whole is None:
        return ""
    peers = (row for row in document.get("fastest_peers", ()) if (row["threads"], row["batch_size"]) == (1, 1))
    against = "".join(f", {row['times_packed']:.1f} against the fastest ({row['runtime']})" for row in peers)
    return f"The whole network: {whole:.1f} times{against}. "


def draw_speedups(info: SpeedupsInfo) -> Figure:
    """A row per operation: a ring is the estimate, a diamond the measurement, a bar that against the fastest runtime;
    right of the line packed is faster."""
    height = EXTRA_HEIGHT + ROW_HEIGHT * len(info.rows)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(info.rows), 0, -1)
    for place, row in zip(places, info.rows, strict=True):
        if row.estimated is not None and row.measured is not None:
            axes.plot([row.measured, row.estimated], [place, place], color="#cccccc", linewidth=1, zorder=1)
    estimated = [(row.estimated, place) for place, row in zip(places, info.rows, strict=True) if row.estimated]
    axes.plot(*zip(*estimated, strict=True), "o", color=MEAN, markerfacecolor="white", label="estimated", markersize=5)
    measured = [(row.measured, place) for place, row in zip(places, info.rows, strict=True) if row.measured]
    axes.plot(*zip(*measured, strict=True), "D", color=DOT, label="measured", markersize=4)
    fastest = [(row.fastest, place) for place, row in zip(places, info.rows, strict=True) if row.fastest]
    if fastest:
        axes.plot(
            *zip(*fastest, strict=True), "|", color=INK, label="against the fastest", markersize=8, markeredgewidth=1.6
        )
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(list(places), [row.label for row in info.rows], fontsize=7)
    axes.set_ylim(0.3, len(info.rows) + 0.7)
    axes.grid(axis="x", color="#e3e3e3")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("times faster than float32 (logarithmic)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / height), ncols=3, frameon=False)
    figure.supxlabel(textwrap.fill(info.caption, CAPTION_COLUMNS), fontsize=7, color=SOFT_INK)
    return figure


def save_speedups(info: SpeedupsInfo, path: Path) -> None:
    """
    Raises:
      UsageError: neither .svg nor .png. RunError: it cannot be written.
    """
    save_picture(lambda: draw_speedups(info), path, salt="speedups", dpi=DPI, look=LOOK)
