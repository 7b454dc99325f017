"""`cpnas predict`."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli import options
from cpnas_cli.cli.console import COMPILING, print_json, reported_errors, said_if_slow, say
from cpnas_cli.errors import EXIT_ERROR

if TYPE_CHECKING:
    from cpnas_cli.data.listing import Skipped
    from cpnas_cli.deploy.packed_file import PackedModel
    from cpnas_cli.deploy.predict import Answer, Failure, Prediction

# What would break a line or a column, command the terminal, or cannot be written at all
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def predict(
    model: Annotated[Path, typer.Argument(help="A packed model, or the folder of a run that `cpnas export` packed.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, and folders of them.")],
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="K", min=1, help="The K best classes of each image; without it the best (--json: all)."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", metavar="N", min=1, help="N read images and N run the network; without it one per core."
        ),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Classify images with a packed model: a line of path, class and probability for each.

    A line is tab-separated unless it goes to a terminal. Images may have any size and format; a folder is read with
    all that is in it. An image that cannot be read is named on standard error, the others are classified, and the
    exit code is 1. The probabilities are the softmax of the network's scores: its own, not calibrated.
    """
    with reported_errors():
        from cpnas_cli.data.listing import describe_skipped
        from cpnas_cli.deploy.packed_file import load_packed
        from cpnas_cli.deploy.predict import find_packed, list_images, predict_images

        file = find_packed(model)
        packed = load_packed(file)
        listed = list_images(images)
        paths = listed.images
        skipped = describe_skipped(listed.skipped)
        if skipped is not None:
            say(f"note: skipped: {_printable(skipped)}")

        from cpnas_cli.deploy.engine import Engine  # takes a moment: after all that may be typed wrongly

        engine = Engine(packed, num_threads=threads)
        with said_if_slow(COMPILING):
            engine.warm_up(len(paths))
        answers = predict_images(engine, paths)
        if json_:
            num_failed = _print_document(answers, file, top=top, skipped=listed.skipped)
        else:
            num_failed = _print_lines(answers, _line_format(packed, paths, top=top or 1))
        if num_failed:
            say(f"cpnas: no prediction for {num_failed:,} of {len(paths):,} images")
            raise typer.Exit(EXIT_ERROR)


def _print_lines(answers: "Iterable[Answer]", line: "Callable[[Prediction], str]") -> int:
    """A line for each prediction as soon as it is there; returns how many images have none."""
    from cpnas_cli.deploy.predict import Failure

    num_failed = 0
    for answer in answers:
        if isinstance(answer, Failure):
            num_failed += 1
            _say_failure(answer)
        else:
            print(line(answer))
    return num_failed


def _print_document(answers: "Iterable[Answer]", model: Path, *, top: int | None, skipped: "Sequence[Skipped]") -> int:
    """All predictions as one record; returns how many images have none."""
    from cpnas_cli.deploy.predict import Failure, predictions_document

    kept: list[Answer] = []
    for answer in answers:
        if isinstance(answer, Failure):
            _say_failure(answer)
        kept.append(answer)
    print_json(document := predictions_document(model, kept, top=top, skipped=skipped))
    return len(document["failed"])


def _say_failure(failure: "Failure") -> None:
    say(f"cpnas: {_printable(failure.error)}")


def _line_format(model: "PackedModel", images: Sequence[Path], *, top: int) -> "Callable[[Prediction], str]":
    """Columns for a terminal, else fields between tabs: the path, then class and probability, `top` times."""
    if not sys.stdout.isatty():
        return lambda prediction: "\t".join(
            [_printable(str(prediction.image))]
            + [field for name, p in prediction.ranking[:top] for field in (_printable(name), f"{p:.6f}")]
        )
    path_width = max(len(_printable(str(image))) for image in images)
    class_width = max(len(_printable(name)) for name in model.classes)
    return lambda prediction: "  ".join(
        [f"{_printable(str(prediction.image)):{path_width}}"]
        + [f"{_printable(name):{class_width}}  {100 * p:6.2f} %" for name, p in prediction.ranking[:top]]
    )


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
