"""`cpnas show`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, printable, reported_errors


def show(
    genotype: Annotated[Path, typer.Argument(help="A genotype.json, or the folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", help="Also write a picture: a .svg or .png file.")] = None,
    json_: options.Json = False,
) -> None:
    """Draw the two cells of a genotype, with what is 1-bit and what is real."""
    with reported_errors():
        from cpnas_cli.cli.render.runs import describe_origin, print_genotype
        from cpnas_cli.runs.folder import settings_beside
        from cpnas_cli.storage.genotype_file import read_genotype

        parsed, document = read_genotype(genotype)
        folder = genotype if genotype.is_dir() else genotype.parent
        settings_beside(folder)  # before anything is printed: they say what is 1-bit
        if out is not None:
            from cpnas_cli.reports.cells import cells_info, save_cells

            save_cells(cells_info(parsed, subtitle=describe_origin(document)), out)
        if json_:
            print_json(document)
        else:
            print_genotype(parsed, document, folder=folder)
            if out is not None:
                print(f"\npicture: {printable(str(out))}")
