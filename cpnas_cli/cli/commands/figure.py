"""`cpnas figure`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli.console import printable, reported_errors


def figure(
    experiment: Annotated[
        Path, typer.Argument(help="The folder of an experiment or a frontier, or its experiment.json or frontier.json.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the figures go; without it beside experiment.json.")
    ] = None,
) -> None:
    """Draw the figures of an experiment or a frontier again, from its document alone; SVG and PNG."""
    with reported_errors():
        folder = out or (experiment if experiment.is_dir() else experiment.parent)
        for path in _save(experiment, folder):
            print(printable(str(path)))


def _save(experiment: Path, folder: Path) -> list[Path]:
    from cpnas_cli.experiments.frontier.plan import FrontierFolder

    if experiment.name == FrontierFolder.DOCUMENT or FrontierFolder(experiment).document.exists():
        from cpnas_cli.experiments.frontier.document import read_frontier
        from cpnas_cli.reports.frontier import save_frontier

        return save_frontier(read_frontier(experiment), folder)
    from cpnas_cli.experiments.document import read_experiment
    from cpnas_cli.reports.experiments import save_figures

    return save_figures(read_experiment(experiment), folder)
