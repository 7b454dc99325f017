"""Evaluate from Python."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpnas_cli.library.paths import AnyPath
from cpnas_cli.library.table import html_table, percent


@dataclass(frozen=True)
class Evaluated:
    """What a trained run's network says of the test images; in a notebook it is a table.

    Attributes:
      document: `cpnas.evaluation/1`: per class, confusions, the surest mistakes, calibration.
      classes: of the network, in the order of the rows and columns of `confusion`.
    """

    document: Mapping[str, Any] = field(repr=False)
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """A fraction of the test images."""
        return self.document["accuracy_test"]

    @property
    def confusion(self) -> list[list[int]]:
        """How many images of the class of the row are taken for that of the column."""
        return self.document["confusion"]

    def _repr_html_(self) -> str:
        rows = [("test accuracy", percent(self.accuracy))]
        for name, row in zip(self.classes, self.confusion, strict=True):
            index, num_images = self.classes.index(name), sum(row)
            rows.append((name, f"{row[index]} of {num_images} right"))
        return html_table(rows, caption=str(self.document["run"]))


def evaluate(run: AnyPath, *, data_dir: AnyPath | None = None, device: str = "auto") -> Evaluated:
    """Accuracy and mistakes of a trained run's network on its test images, as `cpnas evaluate` has them.

    Args:
      data_dir: other images of the same classes, instead of the run's own.

    Raises:
      RunError: the folder holds no trained network. DataError: the classes differ. CheckpointError: it is damaged.
    """
    from cpnas_cli.distributed.device import open_device
    from cpnas_cli.training.evaluation import evaluation_of

    folder = None if data_dir is None else Path(data_dir)
    evaluation = evaluation_of(Path(run), data_dir=folder, device=open_device(device).device)
    return Evaluated(evaluation.document, evaluation.answers.classes)
