"""`cpnas runs`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, printable, reported_errors, say

DEFAULT_FOLDER = Path("runs")


def complete_sort(incomplete: str) -> list[str]:
    from typing import get_args

    from cpnas_cli.reports.inventory import SortKey

    return [key for key in get_args(SortKey) if key.startswith(incomplete)]


def complete_filter(incomplete: str) -> list[str]:
    from typing import get_args

    from cpnas_cli.reports.inventory import FilterKey, Kind, State

    known = {"state": get_args(State), "kind": get_args(Kind)}
    words = [f"{key}={value}" for key in get_args(FilterKey) for value in known.get(key, ("",))]
    return [word for word in words if word.startswith(incomplete)]


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help=f"The folder that holds them; {DEFAULT_FOLDER}/.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort", metavar="KEY", help="age, accuracy, size or name of the folder.", autocompletion=complete_sort
        ),
    ] = "age",
    filter_: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="Only those with this state, kind, data or strategy; repeatable.",
            autocompletion=complete_filter,
        ),
    ] = None,
    json_: options.Json = False,
) -> None:
    """List searches, trainings, experiments and frontiers: state, data, strategy, accuracy, size and age.

    The most accurate trained Child on each data set has a star. One that is damaged, or cannot be read, is
    listed with the reason.
    """
    with reported_errors():
        from cpnas_cli.reports.inventory import filtered_runs, find_runs, runs_document, sorted_runs

        root = folder or DEFAULT_FOLDER
        found = [] if folder is None and not root.exists() else find_runs(root)
        chosen = sorted_runs(filtered_runs(found, filter_ or []), sort)
        document = runs_document(root, chosen)
        if json_:
            print_json(document)
        elif chosen:
            from cpnas_cli.cli.render.inventory import print_runs

            print_runs(chosen, document)
        elif found:
            say(f"none of the {len(found):,} runs in {printable(str(root))} is like that")
        else:
            say(f"no runs in {printable(str(root))}; `cpnas search` makes one")
