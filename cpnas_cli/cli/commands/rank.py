"""`cpnas rank`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors


def rank(
    table: Annotated[Path, typer.Argument(help="A table of architectures, each trained in full with several seeds.")],
    searches: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of searches: how well their draws rank the architectures of the table."),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Which scores rank architectures as their full training does: Kendall's tau, regret, and what is beaten.

    Replays both signs of the Child-Parent indicator, both ways of giving credit, the losses of the first epochs and
    what needs no training at all against a table of trained architectures.
    """
    with reported_errors():
        from cpnas_cli.errors import RunError
        from cpnas_cli.experiments.ranking.record import ranking_document
        from cpnas_cli.experiments.ranking.scores import evaluated_draws
        from cpnas_cli.experiments.ranking.table import read_table
        from cpnas_cli.runs.folder import RunFolder

        trained = read_table(table)
        histories = {}
        for folder in searches or ():
            history = RunFolder(folder).history()
            if not evaluated_draws(history):
                raise RunError(f"{folder} holds no search that evaluated what it drew; expected the folder of one")
            histories[str(folder)] = history
        document = ranking_document(trained, path=str(table), searches=histories)
        if json_:
            print_json(document)
        else:
            from cpnas_cli.cli.render.ranking import print_ranking

            print_ranking(document)
