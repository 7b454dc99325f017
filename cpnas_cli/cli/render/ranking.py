"""A ranking as text for people, on standard output."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cpnas_cli.cli.render.runs import percent
from cpnas_cli.cli.styled_console import StyledConsole


def print_ranking(document: Mapping[str, Any]) -> None:
    """What ranks well, from nothing at all to whole trainings and searches."""
    console = StyledConsole()
    child = document["accuracy_child"]
    print(
        f"{document['num_genotypes']} architectures, each trained with seeds {', '.join(map(str, document['seeds']))}: "
        f"Child {percent(child['mean'])} ± {100 * child['std']:.2f}, from {percent(child['min'])} to "
        f"{percent(child['max'])}"
    )
    if document["num_incomplete"]:
        print(f"{document['num_incomplete']} more were left out: not trained with every seed")
    for title, rows in (
        ("without any training", document["trivial"]),
        ("one training of an architecture, against its other trainings", document["trainings"]),
    ):
        console.print(_table(title, rows), highlight=False)
    for search in dict.fromkeys(row["search"] for row in document["searches"]):
        rows = [row for row in document["searches"] if row["search"] == search]
        console.print(_table(f"the draws of {search}", rows), highlight=False)
    best = Table(title="the best of n random ones", **_LOOK)
    for heading in ("n, each trained once", "regret", "of all it beats"):
        best.add_column(heading, justify="right")
    for row in document["best_of"]:
        best.add_row(str(row["num_genotypes"]), f"{100 * row['regret']:.2f}", percent(row["share_beaten"]))
    console.print(best, highlight=False)


_LOOK: dict[str, Any] = {
    "box": SIMPLE_HEAD,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
    "title_justify": "left",
    "title_style": "bold",
}


def _table(title: str, rows: list[Mapping[str, Any]]) -> Table:
    table = Table(title=title, **_LOOK)
    table.add_column("score", no_wrap=True)
    for heading in ("tau", "95 %", "regret of its first", "of all it beats"):
        table.add_column(heading, justify="right")
    for row in rows:
        low, high = row["interval_95"]
        table.add_row(
            row["name"],
            f"{row['tau']:+.2f}",
            f"[{low:+.2f}, {high:+.2f}]",
            f"{100 * row['regret']:.2f}",
            percent(row["share_beaten"]),
        )
    return table
