"""An evaluation as text for people, within 80 columns for up to some twenty classes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cpnas_cli.cli.console import printable
from cpnas_cli.cli.render.runs import percent
from cpnas_cli.cli.styled_console import StyledConsole

MOST_CLASSES = 20
"""Of which each has its row; of more the least recognized are shown."""

FEW = 10
"""Rows of a list that is cut."""

SHORT = 4
"""Cells of a name that fits above a column of counts."""

_LEAST_LABEL = 10  # cells of a name beside a row of counts


def print_evaluation(document: Mapping[str, Any]) -> None:
    """What `cpnas.evaluation/1` says, the accuracies first."""
    print_accuracies(document)
    console = StyledConsole()
    _print_classes(document, console)
    _print_confusion(document, console)
    _print_mistakes(document, console)
    found = document["calibration"]
    print(
        f"calibration: on average {percent(found['mean_confidence'])} sure and "
        f"{percent(document['accuracy_test'])} right;\n"
        f"expected calibration error {percent(found['expected_error'])} ({len(found['bins'])} bins of equal width)"
    )


def print_accuracies(document: Mapping[str, Any]) -> None:
    is_parent = document["network"] == "parent"
    of = " (the full-precision Parent)" if is_parent else ""
    print(f"test accuracy {percent(document['accuracy_test'])} on {document['num_test_images']} images{of}")
    if document["accuracy_parent_test"] is not None and not is_parent:
        print(f"its Parent    {percent(document['accuracy_parent_test'])}")
    if document["recorded_accuracy_test"] is not None:
        print(f"at the end of the training it was {percent(document['recorded_accuracy_test'])}")


def _print_classes(document: Mapping[str, Any], console: StyledConsole) -> None:
    rows: Sequence[Mapping[str, Any]] = document["per_class"]
    title = "per class"
    if len(rows) > MOST_CLASSES:
        title = f"the {FEW} of {len(rows)} classes with the lowest F1 (--json has all)"
        rows = sorted(rows, key=lambda row: 1.0 if row["f1"] is None else row["f1"])[:FEW]
    table = _table()
    table.add_column("class")
    for column in ("images", "predicted", "precision", "recall", "F1"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        counts = (f"{row['num_images']:,}", f"{row['num_predicted']:,}")
        table.add_row(_name(row["class"]), *counts, *_fractions(row))
    table.add_section()
    table.add_row("mean of the classes", f"{document['num_test_images']:,}", "", *_fractions(document["macro"]))
    _print_table(title, table, console)
    if any(row[key] is None for row in document["per_class"] for key in ("precision", "recall")):
        print("-: never predicted, or no image of it; left out of the mean\n")


def _fractions(row: Mapping[str, Any]) -> list[str]:
    return [percent(row[key]) for key in ("precision", "recall", "f1")]


def _print_confusion(document: Mapping[str, Any], console: StyledConsole) -> None:
    """The matrix, if it fits; else what is taken for what most often."""
    if not document["num_mistakes"]:
        return
    names, confusion = [row["class"] for row in document["per_class"]], document["confusion"]
    if len(names) <= MOST_CLASSES:
        headers = _headers(names)
        widths = [max(header.cell_len, _width(confusion, place)) for place, header in enumerate(headers)]
        if _LEAST_LABEL + sum(width + 1 for width in widths) <= console.width:
            table = _confusion_matrix(names, confusion, headers, widths)
            _print_table("what is taken for what: a row for each class, a column for each answer", table, console)
            print()
            return
    table = _table()
    table.add_column("images", justify="right", no_wrap=True)
    for column in ("class", "taken for"):
        table.add_column(column)
    for count, true, predicted in largest_confusions(confusion)[:FEW]:
        table.add_row(f"{count:,}", _name(names[true]), _name(names[predicted]))
    _print_table("what is most often taken for another class", table, console)


def _headers(names: Sequence[str]) -> list[Text]:
    """Above the columns of counts: the classes, or, where names are long, their numbers, as in the rows."""
    if all(cell_len(printable(name)) <= SHORT for name in names):
        return [_name(name) for name in names]
    return [Text(str(number)) for number in range(1, len(names) + 1)]


def _confusion_matrix(
    names: Sequence[str], confusion: Sequence[Sequence[int]], headers: Sequence[Text], widths: Sequence[int]
) -> Table:
    """A 0 is a dot."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    for header, width in zip(headers, widths, strict=True):
        table.add_column(header, justify="right", no_wrap=True, width=width)
    for index, (name, counts) in enumerate(zip(names, confusion, strict=True)):
        is_named = headers[index].plain == printable(name)
        label = name if is_named else f"{headers[index].plain:>{len(str(len(names)))}} {name}"
        cells = [
            Text(str(count) if count else ".", style="bold" if place == index else "" if count else "dim")
            for place, count in enumerate(counts)
        ]
        table.add_row(_name(label), *cells)
    return table


def _width(confusion: Sequence[Sequence[int]], column: int) -> int:
    return max(len(str(counts[column])) for counts in confusion)


def largest_confusions(confusion: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """(number of images, class, class that they are taken for), the most images first."""
    found = [
        (count, true, predicted)
        for true, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    return sorted(found, key=lambda each: (-each[0], each[1], each[2]))


def _print_mistakes(document: Mapping[str, Any], console: StyledConsole) -> None:
    shown = document["mistakes"][:FEW]
    if not shown:
        return
    folder = _common_folder(shown)
    table = _table()
    table.add_column("sure", justify="right", no_wrap=True)
    for column in ("class", "taken for"):
        table.add_column(column, max_width=18)
    table.add_column("image" if folder is None else "file", overflow="fold", min_width=12)
    for row in shown:
        where = str(row["index"]) if folder is None else os.path.relpath(row["file"], folder)
        table.add_row(percent(row["probability"]), _name(row["class"]), _name(row["predicted"]), Text(printable(where)))
    _print_table(f"the most confident of {document['num_mistakes']:,} mistakes (--csv FILE has all)", table, console)
    if folder is not None:
        print(f"in {printable(folder)}\n")


def _common_folder(mistakes: Sequence[Mapping[str, Any]]) -> str | None:
    """The folder in which all the files lie, to be said once; None where images have no files."""
    if any(row["file"] is None for row in mistakes):
        return None
    return os.path.commonpath([Path(row["file"]).parent for row in mistakes])


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _print_table(title: str, table: Table, console: StyledConsole) -> None:
    console.print(Text(title, style="bold"))
    console.print(table, highlight=False)


def _name(name: str) -> Text:
    """In one line, cut where the table is too narrow; neither markup nor a command to the terminal."""
    return Text(printable(name), no_wrap=True, overflow="ellipsis")
