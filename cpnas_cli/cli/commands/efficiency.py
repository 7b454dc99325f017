"""`cpnas efficiency`."""

import typer

from cpnas_cli.cli.commands.estimate_efficiency import estimate_efficiency
from cpnas_cli.cli.commands.measure_efficiency import measure_efficiency

app = typer.Typer(help="What 1-bit inference saves in memory and time.", no_args_is_help=True, rich_markup_mode=None)
app.command("report")(estimate_efficiency)
app.command("measure")(measure_efficiency)
