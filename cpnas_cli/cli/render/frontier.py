"""A frontier as text for people, on standard output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cpnas_cli.cli.console import printable
from cpnas_cli.cli.render.runs import percent
from cpnas_cli.cli.styled_console import StyledConsole


def print_frontier(document: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Every point; what to take for each size and time; the advice in a sentence; where everything is."""
    console = StyledConsole()
    console.print(points_table(document), highlight=False)
    for kind, title in (("sizes", "at most"), ("times", "at most")):
        if document["advice"][kind]:
            console.print(_advice_table(document["advice"][kind], title=title), highlight=False)
    print(document["advice"]["sentence"])
    for warning in document["warnings"]:
        print(f"warning: {printable(warning)}")
    print("\n" + "\n".join(printable(str(file)) for file in files))


def points_table(document: Mapping[str, Any]) -> Table:
    table = _table("network", "width", "channels", "test accuracy", "n", "size", "file", "time")
    for point in document["points"]:
        deviation = point["accuracy_test_std"]
        table.add_row(
            point["family"],
            f"{point['width']:g}",
            str(point["num_channels"]),
            percent(point["accuracy_test_mean"]) + ("" if deviation is None else f" ± {100 * deviation:.2f}"),
            str(point["n"]),
            kibibytes(point["bytes"]),
            kibibytes(point["file_bytes"]),
            milliseconds(point["seconds_median"]),
        )
    return table


def _advice_table(choices: Sequence[Mapping[str, Any]], *, title: str) -> Table:
    table = _table(title, "take", "best 1-bit", "best other", "1-bit less other")
    for choice in choices:
        if "budget_bytes" in choice:
            budget = f"{choice['budget_bytes'] / 1024:g} KiB"
        else:
            budget = milliseconds(choice["budget_seconds"])
        table.add_row(budget, _taken(choice), _named(choice["one_bit"]), _named(choice["other"]), _difference(choice))
    return table


def _taken(choice: Mapping[str, Any]) -> str:
    if choice["verdict"] == "none":
        return "nothing fits"
    return "level" if choice["verdict"] == "level" else choice["take"]["family"]


def _named(point: Mapping[str, Any]) -> str:
    if point["family"] is None:
        return "-"
    return f"{percent(point['accuracy_mean'])} ({point['family']}, width {point['width']:g})"


def _difference(choice: Mapping[str, Any]) -> str:
    if choice["difference"] is None:
        return "-"
    error = choice["standard_error"]
    return f"{100 * choice['difference']:+.2f} points" + ("" if error is None else f" ± {100 * error:.2f}")


def _table(first: str, *titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right")
    return table


def kibibytes(num_bytes: int) -> str:
    return f"{num_bytes / 1024:.1f} KiB"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.3g} ms"
