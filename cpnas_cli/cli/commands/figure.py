"""`cpnas figure`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli.console import reported_errors


def figure(
    experiment: Annotated[Path, typer.Argument(help="An experiment's folder, or its experiment.json.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the figures go; without it beside experiment.json.")
    ] = None,
) -> None:
    """Draw the figures of an experiment again, from its experiment.json alone; SVG and PNG."""
    with reported_errors():
        from cpnas_cli.experiments.document import read_experiment
        from cpnas_cli.reports.experiments import save_figures

        document = read_experiment(experiment)
        folder = out or (experiment if experiment.is_dir() else experiment.parent)
        for path in save_figures(document, folder):
            print(path)
