"""The app, assembled from one file per command. Nothing here imports torch."""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

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
    fit,
    frontier,
    predict,
    presets,
    rank,
    report,
    runs,
    search,
    show,
    train,
)
from cpnas_cli.cli.console import close_output, name_files_in_warnings, open_streams, reported_errors
from cpnas_cli.errors import UsageError

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
app.command("search", short_help="Search an architecture on images.")(search.search)
app.command("train", short_help="Train the 1-bit Child of a genotype.")(train.train)
app.command("fit", short_help="From photos to a packed model in the time there is.")(fit.fit)
app.command("data", short_help="What is in a folder of images, before it trains.")(data.data)
app.command("evaluate", short_help="Accuracy of a trained run, per class, and mistakes.")(evaluate.evaluate)
app.command("ablate-beta", short_help="Test accuracy over beta_P: an experiment.")(ablate_beta.ablate_beta)
app.command("ablate", hidden=True)(ablate_beta.ablate_beta)
app.command("compare-strategies", short_help="Test accuracy by search strategy: an experiment.")(
    compare_strategies.compare_strategies
)
app.command("compare", hidden=True)(compare_strategies.compare_strategies)
app.command("frontier", short_help="Is 1 bit worth it on your images? Bytes, time.")(frontier.frontier)
app.command("rank", short_help="Which scores rank architectures as training does.")(rank.rank)
app.command("figure", short_help="Draw the figures of an experiment again.")(figure.figure)
app.command("estimate-efficiency", short_help="Memory and operations that 1 bit saves, counted.")(
    estimate_efficiency.estimate_efficiency
)
app.add_typer(efficiency.app, name="efficiency")
app.command("export", short_help="Write a network to deploy: packed, ONNX or C source.")(export.export)
app.command("predict", short_help="Classify images with a packed model.")(predict.predict)
app.command("report", short_help="One HTML page of a run or an experiment.")(report.report)
app.command("show", short_help="Draw the two cells of a genotype.")(show.show)
app.command("runs", short_help="List the runs and experiments in a folder.")(runs.runs)
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


def _check_working_folder() -> None:
    """
    Raises:
      UsageError: it was deleted, so that no path means anything.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(f"the working folder cannot be used ({error.strerror}); go to another one with cd") from None


def main() -> None:
    wait_passively(os.environ)
    open_streams()
    name_files_in_warnings()
    try:
        with reported_errors():  # of what is printed outside of commands: help and version
            _check_working_folder()
            app()
    except typer.Exit as error:
        code: int | str | None = error.exit_code
    except SystemExit as error:
        code = error.code
    else:
        code = 0
    sys.exit(close_output(code))
