"""The app, assembled from one file per command. Nothing here imports torch."""

import os
from collections.abc import MutableMapping

import typer

from cpnas_cli.cli.commands import (
    ablate_beta,
    compare_strategies,
    data,
    efficiency,
    estimate_efficiency,
    evaluate,
    export,
    figure,
    frontier,
    predict,
    presets,
    rank,
    runs,
    search,
    show,
    train,
)

app = typer.Typer(
    name="cpnas",
    help="Find, train and evaluate 1-bit convolutional networks by Child-Parent architecture search (CP-NAS).",
    epilog=(
        "Exit codes: 0 done, 1 an error that the message explains, 2 wrong usage, "
        "75 stopped at --max-time (--resume goes on), 130 interrupted."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("search")(search.search)
app.command("train")(train.train)
app.command("data")(data.data)
app.command("evaluate")(evaluate.evaluate)
app.command("ablate-beta")(ablate_beta.ablate_beta)
app.command("ablate", hidden=True)(ablate_beta.ablate_beta)
app.command("compare-strategies")(compare_strategies.compare_strategies)
app.command("compare", hidden=True)(compare_strategies.compare_strategies)
app.command("frontier")(frontier.frontier)
app.command("rank")(rank.rank)
app.command("figure")(figure.figure)
app.command("estimate-efficiency")(estimate_efficiency.estimate_efficiency)
app.add_typer(efficiency.app, name="efficiency")
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("show")(show.show)
app.command("runs")(runs.runs)
app.add_typer(presets.app, name="presets")


def _version(value: bool) -> None:
    if value:
        from cpnas_cli import __version__

        print(f"cpnas {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Find, train and evaluate 1-bit convolutional networks by Child-Parent architecture search (CP-NAS)."""
    del version


WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_passively(environment: MutableMapping[str, str]) -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has chosen how they wait.

    They would spin, which keeps the cores from whatever else wants them: on a busy machine each of the many short
    steps of a small network then waits for a thread that got no core. Read when torch is loaded, inherited by workers.
    """
    if not any(name in environment for name in WAITING_VARIABLES):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"


def main() -> None:
    wait_passively(os.environ)
    app()
