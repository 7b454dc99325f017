"""`cpnas presets`."""

from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors

app = typer.Typer(help="List the presets, or show one.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(json_: options.Json = False) -> None:
    """Names of the presets, with what they are for."""
    with reported_errors():
        from cpnas_cli.settings import preset_names, preset_summary

        summaries = {name: preset_summary(name) for name in preset_names()}
        if json_:
            print_json({"schema": "cpnas.presets/1", "presets": summaries})
        else:
            width = max(map(len, summaries))
            for name, summary in summaries.items():
                print(f"{name:{width}}  {summary}")


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A preset's name.", autocompletion=options.complete_preset)]) -> None:
    """All settings of a preset as YAML, with what each decides, what is published and what is ours."""
    with reported_errors():
        from cpnas_cli.settings import documented_yaml

        print(documented_yaml(name), end="")
