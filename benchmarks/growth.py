"""What a training epoch of Child and Parent costs when one of cells, channels, images and classes is doubled.

All five workloads in turn. Linear growth gives 2 for cells and for images. For channels it gives 2
where a layer's work is one filter per channel, and 4 where every channel meets every other (the 1x1
convolutions). Classes only widen the classifier and the class means, which are next to nothing.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.epochs import GENOTYPE, training_epochs
from benchmarks.tables import Rows, run_alone
from benchmarks.workload import SHAPES, Workload
from cpnas_cli.efficiency.timing import interleaved, paired_ratio

TITLE = "growth of a training epoch of Child and Parent"
WORKLOAD = Workload(SHAPES[1], num_images=128)
LINEAR = {"cells": "2", "channels": "2 to 4", "images": "2", "classes": "1"}


def sizes(workload: Workload) -> dict[str, int]:
    """What can be doubled."""
    return {
        "cells": workload.shape.num_cells,
        "channels": workload.shape.num_channels,
        "images": workload.num_images,
        "classes": workload.num_classes,
    }


def doubled(workload: Workload) -> dict[str, Workload]:
    """The workload with one of its sizes doubled, by the name of that size."""
    shape = workload.shape
    return {
        "cells": replace(workload, shape=shape._replace(num_cells=2 * shape.num_cells)),
        "channels": replace(workload, shape=shape._replace(num_channels=2 * shape.num_channels)),
        "images": replace(workload, num_images=2 * workload.num_images),
        "classes": replace(workload, num_classes=2 * workload.num_classes),
    }


def _both(workload: Workload, folder: Path) -> Callable[[], float]:
    """Seconds of an epoch of the Child and one of the Parent."""
    epochs = training_epochs(workload, GENOTYPE, folder=folder)
    return lambda: sum(epoch() for epoch in epochs.values())


def tabulate(workload: Workload = WORKLOAD, *, repetitions: int, warmup: int = 1) -> Rows:
    workloads = doubled(workload)
    with tempfile.TemporaryDirectory() as folder:
        seconds = interleaved(
            {name: _both(each, Path(folder) / name) for name, each in {"base": workload, **workloads}.items()},
            repetitions=repetitions,
            warmups=warmup,
        )
    return [
        {
            **workload.shape.column(),
            "doubled": name,
            "from": sizes(workload)[name],
            "to": sizes(each)[name],
            "base s": statistics.median(seconds["base"]),
            "doubled s": statistics.median(seconds[name]),
            "doubled / base": paired_ratio(seconds[name], seconds["base"]).median,
            "linear growth gives": LINEAR[name],
        }
        for name, each in workloads.items()
    ]


if __name__ == "__main__":
    run_alone(__doc__, TITLE, tabulate, repetitions=7)
