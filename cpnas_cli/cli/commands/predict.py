"""`cpnas predict`."""

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cpnas_cli.cli.console import COMPILING, printable, reported_errors, said_if_slow, say
from cpnas_cli.errors import EXIT_ERROR, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from cpnas_cli.cli.render.predictions import Line
    from cpnas_cli.deploy.packed_file import PackedModel
    from cpnas_cli.deploy.predict import Answer

_WORTH_A_LINE = 100  # images, from which on it is said how many there were in a second


def predict(
    model: Annotated[Path, typer.Argument(help="A packed model, or the folder of a run that `cpnas export` packed.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files, and folders of them.")],
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="K", min=1, help="The K best classes of each image; without it the best (--json: all)."
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold", metavar="P", help="From 0 to 1: with a best class less probable than this: unsure."
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", metavar="N", min=1, help="N read images and N run the network; without it one per core."
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON record per image, each on a line.")] = False,
) -> None:
    """Classify images with a packed model: a line of path, class and probability for each.

    A line is tab-separated unless it goes to a terminal. Images may have any size and format; a folder is read with
    all that is in it. An image that cannot be read is named on standard error, the others are classified, and the
    exit code is 1. The probabilities are the softmax of the network's scores: its own, not calibrated.
    """
    with reported_errors():
        from cpnas_cli.data.listing import Skipped, describe_skipped
        from cpnas_cli.deploy.packed_file import load_packed
        from cpnas_cli.deploy.predict import find_packed, predict_images, walk_images

        if csv and json_:
            raise UsageError("--csv and --json are two forms of the same; leave out one of them")
        asked = _Asked(top, None if threshold is None else _probability(threshold), csv=csv, json=json_)
        file = find_packed(model)
        packed = load_packed(file)
        skipped = list[Skipped]()
        paths = walk_images(images, skipped)

        from cpnas_cli.deploy.engine import Engine  # takes a moment: after all that may be typed wrongly

        engine = Engine(packed, num_threads=threads)
        first = list(islice(paths, engine.runner.num_threads))
        with said_if_slow(COMPILING):
            engine.warm_up(len(first))
        header, line = _form(asked, file, packed, images)
        # closed at once where it is left early: its threads would go on with what they have begun
        with contextlib.closing(predict_images(engine, chain(first, paths), top=asked.num_ranked)) as answers:
            num_failed, num_images = _print(answers, header, line)
        if asked.json:
            for each in skipped:
                print(line(each), flush=True)
        if (described := describe_skipped(skipped)) is not None:
            say(f"note: skipped: {printable(described)}")
        if num_failed:
            say(f"cpnas: no prediction for {num_failed:,} of {num_images:,} images")
            raise typer.Exit(EXIT_ERROR)


@dataclass(frozen=True)
class _Asked:
    """What of each answer is printed, and how."""

    top: int | None
    threshold: float | None
    csv: bool
    json: bool

    @property
    def num_ranked(self) -> int | None:
        return self.top if self.json else self.top or 1


def _probability(text: str) -> float:
    """
    Raises:
      UsageError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # nor a NaN
        raise UsageError(f"--threshold expects a probability from 0 to 1, got {text!r}")
    return number


def _form(asked: _Asked, file: Path, model: "PackedModel", images: Sequence[Path]) -> "tuple[str | None, Line]":
    """The first line, if there is one before those of the images, and what makes a line of an answer."""
    from cpnas_cli.cli.render import predictions
    from cpnas_cli.deploy.predict import walk_images

    if asked.json:
        return None, predictions.json_lines(file, top=asked.top, threshold=asked.threshold)
    top, threshold = asked.top or 1, asked.threshold
    if threshold is not None and predictions.UNSURE in model.classes:
        say(f"cpnas: a class of this model is called {predictions.UNSURE!r} too; --json tells the two apart")
    on_terminal = sys.stdout.isatty()
    if asked.csv:
        rows = predictions.csv_rows(top=top, threshold=threshold, on_terminal=on_terminal)
        return predictions.csv_header(model.classes, top=top), rows
    if on_terminal:
        return None, predictions.columns(walk_images(images, []), model.classes, top=top, threshold=threshold)
    return None, predictions.fields(top=top, threshold=threshold)


def _print(answers: "Generator[Answer, None, None]", header: str | None, line: "Line") -> tuple[int, int]:
    """A line for each answer as soon as it is there; returns how many images have no prediction, and of how many."""
    from cpnas_cli.deploy.predict import Failure

    num_failed = num_images = 0
    started = time.perf_counter()
    if header is not None:
        print(header, flush=True)
    for answer in answers:
        num_images += 1
        if isinstance(answer, Failure):
            num_failed += 1
            say(f"cpnas: {printable(answer.error)}")
        if (text := line(answer)) is not None:
            print(text, flush=True)
    seconds = time.perf_counter() - started
    if num_images >= _WORTH_A_LINE:
        say(f"cpnas: {num_images:,} images in {seconds:.1f} s, {num_images / seconds:,.0f} per second")
    return num_failed, num_images
