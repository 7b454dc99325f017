"""Answers of `cpnas predict` as lines: columns for a terminal, fields between tabs, CSV, JSON."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from cpnas_cli.cli.console import UNPRINTABLE, printable, spelled_out
from cpnas_cli.data.listing import Skipped
from cpnas_cli.deploy.predict import Answer, Prediction, prediction_record

Line = Callable[[Answer | Skipped], str | None]
"""The line of an answer, or of a file that is skipped; None where standard output has none for it."""

UNSURE = "unsure"

_UNWRITABLE = re.compile("[\ud800-\udfff]")


def fields(*, top: int, threshold: float | None) -> Line:
    """Between tabs: the path, then class and probability, `top` times."""

    def line(prediction: Prediction) -> str:
        pairs = [(printable(name), f"{p:.6f}") for name, p in _shown(prediction, top, threshold)]
        return "\t".join([printable(str(prediction.image)), *(field for pair in pairs for field in pair)])

    return _of_predictions(line)


def columns(images: Iterable[Path], classes: Sequence[str], *, top: int, threshold: float | None) -> Line:
    """The same for people.

    Args:
      images: all of them; they are gone through for the longest path, and not kept.
    """
    names = classes if threshold is None else [*classes, UNSURE]
    path_width = max(len(printable(str(image))) for image in images)
    class_width = max(len(printable(name)) for name in names)

    def line(prediction: Prediction) -> str:
        pairs = [f"{printable(name):{class_width}}  {100 * p:6.2f} %" for name, p in _shown(prediction, top, threshold)]
        return "  ".join([f"{printable(str(prediction.image)):{path_width}}", *pairs])

    return _of_predictions(line)


def csv_header(classes: Sequence[str], *, top: int) -> str:
    further = [f"{key}_{rank}" for rank in range(2, min(top, len(classes)) + 1) for key in ("class", "probability")]
    return _csv_row(["path", "class", "probability", *further])


def csv_rows(*, top: int, threshold: float | None, on_terminal: bool) -> Line:
    """The same for programs: a name stands there as it is, whatever is in it, but for what commands a terminal."""
    pattern = UNPRINTABLE if on_terminal else _UNWRITABLE

    def line(prediction: Prediction) -> str:
        pairs = [(name, f"{p:.6f}") for name, p in _shown(prediction, top, threshold)]
        texts = [str(prediction.image), *(field for pair in pairs for field in pair)]
        return _csv_row([spelled_out(pattern, text) for text in texts])

    return _of_predictions(line)


def json_lines(model: Path, *, top: int | None, threshold: float | None) -> Line:
    """`cpnas.prediction/1`, also of an image that has no prediction, and of what is skipped."""
    encode = json.JSONEncoder(allow_nan=False).encode
    return lambda answer: encode(prediction_record(model, answer, top=top, threshold=threshold))


def _of_predictions(line: Callable[[Prediction], str]) -> Line:
    return lambda answer: line(answer) if isinstance(answer, Prediction) else None


def _shown(prediction: Prediction, top: int, threshold: float | None) -> Sequence[tuple[str, float]]:
    """Class and probability, the best `top`; the best class is not named where the network is not sure of it."""
    ranking = prediction.ranking[:top]
    if threshold is None or not prediction.is_unsure(threshold):
        return ranking
    return [(UNSURE, ranking[0][1]), *ranking[1:]]


class _Returned:
    """A file for `csv` whose `write` gives back what is written."""

    @staticmethod
    def write(text: str) -> str:
        return text


# With this end of a line both of its characters are quoted where they are a part of a name
_END = "\r\n"
_WRITER: Any = csv.writer(_Returned(), lineterminator=_END)


def _csv_row(cells: Sequence[str]) -> str:
    return _WRITER.writerow(cells).removesuffix(_END)
