"""How long the shared Child of `spos` has to be trained: its scores of a table's architectures against full trainings.

Each number of epochs is a search of its own, whose learning rate falls along one cosine; then every architecture of the
table is scored, on all validation images, and the scores held against what it reaches when it is trained by itself.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.held_out import held_out, settings_of_table
from benchmarks.tables import Rows, environment, print_table
from cpnas_cli.distributed.device import open_device
from cpnas_cli.experiments.ranking.ranks import tau_of
from cpnas_cli.experiments.ranking.table import read_table
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import write_json
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.one_shot.draws import draw_one
from cpnas_cli.strategies.one_shot.shared_child import SharedChild

SCHEMA = "cpnas.shared-epochs/1"


def run_of(table: Path, *, epochs: int, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """One shared Child: the scores of the table's architectures in its order, and seconds of the processor."""
    document = json.loads(table.read_text())
    overrides = [*settings, "search.strategy=spos", f"spos.num_epochs={epochs}", f"seed={seed}"]
    config = settings_of_table(document, overrides)
    dataset = held_out(config, document["num_held_out"])
    with tempfile.TemporaryDirectory(prefix="cpnas-scores-") as name:
        search = Search(RunFolder(Path(name)), config, dataset, open_device("cpu"))
        shared = SharedChild(search, purpose="spos step", num_epochs=epochs, num_scored_images=None)
    started = time.process_time()
    for epoch in range(epochs):
        shared.train(lambda generator: [draw_one(generator)], epoch=epoch, before_step=lambda _: None)
    trained = time.process_time()
    scores = [shared.score(genotype) for genotype in read_table(table).genotypes]
    return {
        "epochs": epochs,
        "seed": seed,
        "settings": list(settings),
        "accuracy": [score.accuracy for score in scores],
        "probability": [score.probability for score in scores],
        "seconds_trained": round(trained - started, 1),
        "seconds_scored": round(time.process_time() - trained, 1),
    }


def rows_of(runs: Sequence[Mapping[str, Any]], table: Path) -> Rows:
    """How well the scores rank, the mean over the seeds."""
    accuracy_G = read_table(table).accuracy_child_GS.mean(axis=1)
    rows: Rows = []
    for epochs, settings in dict.fromkeys((run["epochs"], " ".join(run["settings"])) for run in runs):
        same = [run for run in runs if (run["epochs"], " ".join(run["settings"])) == (epochs, settings)]
        for measure in ("accuracy", "probability"):
            values = [np.array(run[measure]) for run in same]
            rows.append(
                {
                    "epochs": epochs,
                    "settings": settings,
                    "score": measure,
                    "seeds": len(same),
                    "mean": round(float(np.mean(values)), 3),
                    "tau": round(statistics.fmean(tau_of(each, accuracy_G) for each in values), 2),
                    "r": round(statistics.fmean(float(np.corrcoef(each, accuracy_G)[0, 1]) for each in values), 2),
                    "training s": statistics.fmean(run["seconds_trained"] for run in same),
                }
            )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="a table of architectures")
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; what is in it is not run again")
    parser.add_argument("--epochs", default="16,32,48,96")
    parser.add_argument("--seeds", default="0,1", help="of the shared networks")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    document: dict[str, Any] = {"schema": SCHEMA, "table": arguments.table.name, "environment": environment()}
    document["runs"] = json.loads(arguments.out.read_text())["runs"] if arguments.out.exists() else []
    done = {(run["epochs"], run["seed"], tuple(run["settings"])) for run in document["runs"]}
    for epochs in map(int, arguments.epochs.split(",")):
        for seed in map(int, arguments.seeds.split(",")):
            if (epochs, seed, tuple(arguments.set)) not in done:
                document["runs"].append(run_of(arguments.table, epochs=epochs, seed=seed, settings=arguments.set))
                document["rows"] = rows_of(document["runs"], arguments.table)
                write_json(arguments.out, document)
    print_table("Scores in a shared Child against full trainings", rows_of(document["runs"], arguments.table))


if __name__ == "__main__":
    main()
