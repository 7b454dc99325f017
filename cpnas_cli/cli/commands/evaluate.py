"""`cpnas evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, reported_errors


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a training.")],
    data_dir: options.DataDir = None,
    device: options.Device = "auto",
    json_: options.Json = False,
) -> None:
    """Accuracy of a trained run's networks on the test set."""
    with reported_errors():
        from cpnas_cli.distributed.device import open_device
        from cpnas_cli.training.evaluation import evaluate_run

        document = evaluate_run(run, data_dir=data_dir, device=open_device(device).device)
        if json_:
            print_json(document)
        else:
            from cpnas_cli.cli.render.runs import print_evaluation

            print_evaluation(document)
