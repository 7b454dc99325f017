"""`cpnas data`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors, say
from cpnas_cli.errors import EXIT_ERROR


def data(
    photos: Annotated[
        Path,
        typer.Argument(metavar="PHOTOS", help="A folder of images: train/CLASS/* and test/CLASS/*, or CLASS/*."),
    ],
    contact_sheet: Annotated[
        Path | None,
        typer.Option("--contact-sheet", metavar="FILE.png", help="Also write a picture: a row of images per class."),
    ] = None,
    set_: options.Set = None,
    json_: options.Json = False,
) -> None:
    """What is in a folder of images: counts, sizes, imbalance, duplicates, damaged files.

    Every image is decoded. Exit code 1: nothing can be trained with the folder as it is, and the problems say why.
    Duplicates have the same pixels, upright, in colour and before resizing, whatever their files' format. --set
    data.test_fraction=0.3 shows another split of class folders alone.
    """
    with reported_errors():
        from cpnas_cli.data.contact_sheet import save_contact_sheet
        from cpnas_cli.data.inspection import inspect_folder, inspection_document
        from cpnas_cli.errors import UsageError
        from cpnas_cli.settings import load_config

        if contact_sheet is not None and contact_sheet.suffix.lower() != ".png":
            raise UsageError(f"--contact-sheet expects a .png file, got {contact_sheet}")
        config = load_config(overrides=set_ or [])
        inspection = inspect_folder(photos, test_fraction=config.data.test_fraction)
        document = inspection_document(inspection)
        if json_:
            print_json(document)
        else:
            from cpnas_cli.cli.render.data import print_inspection

            print_inspection(document)
        if contact_sheet is not None:
            number = save_contact_sheet(inspection.found, contact_sheet)
            say(f"contact sheet of {number:,} classes: {contact_sheet}")
        if inspection.problems:
            raise typer.Exit(EXIT_ERROR)
