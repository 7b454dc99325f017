"""Is the plain CNN of a frontier held back by the learning rate of the 1-bit networks? Its accuracy at others.

On training images that are held out, with the preset's recipe otherwise. The file is written after every training, and
the same command goes on with what is missing.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.held_out import held_out
from benchmarks.tables import Rows, environment, positive, print_table
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config, load_config
from cpnas_cli.storage.documents import write_json
from cpnas_cli.training.baseline import BaselineTraining

SCHEMA = "cpnas.baseline-rates/1"


def accuracy_of(config: Config, dataset: Dataset, *, width: int) -> float:
    with tempfile.TemporaryDirectory(prefix="cpnas-rates-") as name:
        run = RunFolder(Path(name))
        training = BaselineTraining(
            run, config, dataset, width=width, fabric=open_device("cpu"), deadline=Deadline()
        ).train()
    return float(training["accuracy_test"])


def rows_of(runs: Sequence[Mapping[str, Any]]) -> Rows:
    rows: Rows = []
    for rate in sorted({run["learning_rate"] for run in runs}):
        accuracies = [100 * run["accuracy"] for run in runs if run["learning_rate"] == rate]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
        rows.append(
            {
                "learning rate": f"{rate:g}",
                "seeds": len(accuracies),
                "accuracy %": statistics.fmean(accuracies),
                "+-": spread,
            }
        )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; what is in it is not run again")
    parser.add_argument("--preset", default="fashion-mnist-small")
    parser.add_argument("--width", type=positive, default=15, help="channels of the first convolution")
    parser.add_argument("--rates", default="0.0015,0.003,0.006,0.012")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--held-out", type=positive, default=10000, help="training images that stand in for the test")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "preset": arguments.preset,
        "settings": arguments.set,
        "width": arguments.width,
        "num_held_out": arguments.held_out,
        "environment": environment(),
        "runs": [],
    }
    if arguments.out.exists():
        document = json.loads(arguments.out.read_text())
    done = {(run["learning_rate"], run["seed"]) for run in document["runs"]}
    dataset = held_out(load_config(arguments.preset, overrides=arguments.set), arguments.held_out)
    for seed in map(int, arguments.seeds.split(",")):
        for rate in map(float, arguments.rates.split(",")):
            if (rate, seed) in done:
                continue
            overrides = [*arguments.set, f"train.learning_rate={rate:g}", "train.teacher_weight=0", f"seed={seed}"]
            config = load_config(arguments.preset, overrides=overrides)
            accuracy = accuracy_of(config, dataset, width=arguments.width)
            document["runs"].append({"learning_rate": rate, "seed": seed, "accuracy": accuracy})
            write_json(arguments.out, document)
    print_table("A plain CNN at several learning rates, on held-out training images", rows_of(document["runs"]))


if __name__ == "__main__":
    main()
