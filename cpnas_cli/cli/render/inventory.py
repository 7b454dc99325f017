"""Runs and experiments as a table for people."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.console import printable
from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.reports.inventory import FoundRun

_STYLES = {"running": "green", "failed": "red", "damaged": "red", "unreadable": "red", "stopped": "yellow"}


def print_runs(found: Sequence[FoundRun], document: Mapping[str, Any]) -> None:
    """A row for each; columns that would be empty are left out; what is wrong with some is said below.

    Args:
      document: `runs_document` of them.
    """
    ages = [record["age_seconds"] for record in document["runs"]]
    columns = {
        "kind": [Text(run.kind or "-") for run in found],
        "state": [Text(run.state, style=_STYLES.get(run.state, "")) for run in found],
        "data": [_name(run.data_label or "") for run in found],
        "strategy": [_name(",".join(run.strategies)) for run in found],
        "Child": [_accuracy(run.accuracy_child, star=run.best) for run in found],
        "Parent": [_accuracy(run.accuracy_parent_test) for run in found],
        "size": [Text("" if run.size_bits is None else size(run.size_bits)) for run in found],
        "age": [Text("" if run.changed == 0 else age(seconds)) for run, seconds in zip(found, ages, strict=True)],
    }
    columns = {title: cells for title, cells in columns.items() if any(cell.plain for cell in cells)}
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for title in columns:
        is_name = title in ("data", "strategy")
        justify = "right" if title in ("Child", "Parent", "size", "age") else "left"
        table.add_column(title, justify=justify, no_wrap=not is_name, max_width=24 if is_name else None)
    table.add_column("folder", overflow="fold", min_width=10)
    for run, *cells in zip(found, *columns.values(), strict=True):
        table.add_row(*cells, Text(printable(run.folder)))
    StyledConsole().print(table, highlight=False)
    print(f"\n{_summary(found)} in {printable(document['folder'])}")
    if any(run.best for run in found):
        print("*: the most accurate Child on its data, of the trainings")
    for run in found:
        if run.error is not None:
            print(f"{run.state}: {printable(run.folder)}: {printable(run.error)}")


def _summary(found: Sequence[FoundRun]) -> str:
    counts = Counter(run.state for run in found)
    return ", ".join(f"{count:,} {state}" for state, count in counts.most_common())


def _accuracy(fraction: float | None, *, star: bool = False) -> Text:
    if fraction is None:
        return Text("")
    return Text(f"{100 * fraction:.2f} %{'*' if star else ''}", style="bold" if star else "")


def size(bits: int) -> str:
    """Of a network for inference."""
    kib = bits / 8192
    return f"{kib:.1f} KiB" if kib < 1024 else f"{kib / 1024:.1f} MiB"


def age(seconds: int) -> str:
    """In its largest unit."""
    for unit, size_of_next in (("s", 60), ("min", 60), ("h", 48)):
        if seconds < size_of_next:
            return f"{seconds} {unit}"
        seconds //= 24 if unit == "h" else 60
    return f"{seconds:,} d"


def _name(name: str) -> Text:
    return Text(printable(name), no_wrap=True, overflow="ellipsis")
