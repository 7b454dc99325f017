"""`cpnas evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import print_json, printable, reported_errors


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a training, or its best.safetensors.")],
    data_dir: options.DataDir = None,
    device: options.Device = "auto",
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Also write a row per test image: file, class, predicted class, probability."),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Accuracy of a trained run's networks on the test set; of the trained one also per class, and its mistakes.

    Precision, recall and F1 of every class, what is taken for what, the mistakes it is most sure of, and whether it is
    as often right as it is sure (calibration).
    """
    with reported_errors():
        from cpnas_cli.distributed.device import open_device
        from cpnas_cli.storage.documents import write_text
        from cpnas_cli.training.classification import answers_csv
        from cpnas_cli.training.evaluation import evaluation_of

        evaluation = evaluation_of(run, data_dir=data_dir, device=open_device(device).device)
        if csv is not None:
            write_text(csv, answers_csv(evaluation.answers), advice="choose another --csv")
        if json_:
            print_json(evaluation.document)
        else:
            from cpnas_cli.cli.render.evaluation import print_evaluation

            print_evaluation(evaluation.document)
            if csv is not None:
                print(f"\nanswers: {printable(str(csv))}")
