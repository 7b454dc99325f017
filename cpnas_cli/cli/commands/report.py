"""`cpnas report`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli.console import reported_errors

DEFAULT_NAME = "report.html"


def report(
    folder: Annotated[
        Path, typer.Argument(help="The folder of a run, an experiment or a frontier, or one that holds runs.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help=f"The HTML file; without it {DEFAULT_NAME} in the folder.")
    ] = None,
    images: Annotated[
        bool | None,
        typer.Option(
            "--images/--no-images",
            help="Run a training's network on its test images, for the confusion matrix and its mistakes; without "
            "either: where the images are there and few.",
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write one HTML page of what a run or an experiment has left: result, cells, search, curves, mistakes, cost.

    The page is one file that loads nothing from elsewhere; it is light or dark as the reader's screen, fits a phone and
    can be printed.
    """
    with reported_errors():
        from cpnas_cli.reports.page import write_page

        page = write_page(folder, out or folder / DEFAULT_NAME, images=images)
        print(page)
        if open_:
            import webbrowser

            webbrowser.open(page.resolve().as_uri())
