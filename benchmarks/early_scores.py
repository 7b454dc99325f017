"""What shared networks know of architectures after so many epochs: their scores against full trainings.

A Child and a Parent that hold the weights of all candidates are trained as in the warm-up of `cpnas search`, every step
with another architecture, on the images of a table of architectures. In between every architecture of the table is
validated with the shared weights, and its score held against the accuracy that it has when it is trained by itself.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.held_out import held_out, settings_of_table
from benchmarks.tables import Rows, environment, print_table
from cpnas_cli.distributed.device import open_device
from cpnas_cli.experiments.ranking.ranks import tau_of
from cpnas_cli.experiments.ranking.table import read_table
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.storage.documents import write_json
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.indicator import indicator
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.strategies.cpnas.state import SearchState

SCHEMA = "cpnas.early-scores/1"
NETWORKS: tuple[NetworkName, ...] = ("child", "parent")
MEASURES = ("accuracy", "probability")

Values = NDArray[np.float64]


def scores_of(table: Path, *, seed: int, epochs: Sequence[int]) -> list[dict[str, Any]]:
    """Per number of epochs, network and measure: the scores of all architectures of the table, in its order."""
    document = json.loads(table.read_text())
    settings = [f"seed={seed}", "search.strategy=cpnas", f"search.warmup_epochs={max(epochs)}"]
    config = settings_of_table(document, settings)
    dataset = held_out(config, document["num_held_out"])
    genotypes, found = read_table(table).genotypes, list[dict[str, Any]]()
    with tempfile.TemporaryDirectory(prefix="cpnas-scores-") as name:
        shared = SharedNetworks(Search(RunFolder(Path(name)), config, dataset, open_device("cpu")))
    for epoch in range(max(epochs)):
        drawn = SearchState(1, num_warmed_up=epoch).warm_up_draws(shared.num_steps, seed=seed)
        for network in NETWORKS:
            shared.warm_up(network, drawn, epoch=epoch)
        if epoch + 1 not in epochs:
            continue
        judged = [shared.validate_draw(genotype, draw=0) for genotype in genotypes]
        for network in NETWORKS:
            for measure in MEASURES:
                values = [getattr(scores[network], measure) for scores in judged]
                found.append(
                    {"seed": seed, "epochs": epoch + 1, "network": network, "measure": measure, "values": values}
                )
    return found


def partial_correlation(first: Values, second: Values, held: Values) -> float:
    """Of two, with what a straight line over the third explains taken out of both."""
    one, other = (values - np.polyval(np.polyfit(held, values, 1), held) for values in (first, second))
    return float(np.corrcoef(one, other)[0, 1])


def rows_of(scores: Sequence[dict[str, Any]], table: Path) -> Rows:
    """How well each score ranks the table's architectures: the mean over the seeds of the searches."""
    read = read_table(table)
    accuracy_G = read.accuracy_child_GS.mean(axis=1)
    rows: Rows = []
    for epochs in sorted({score["epochs"] for score in scores}):
        for measure in MEASURES:
            by_seed: dict[str, list[Values]] = {}
            for seed in sorted({score["seed"] for score in scores}):
                child, parent = (
                    np.array(score["values"])
                    for network in NETWORKS
                    for score in scores
                    if (score["seed"], score["epochs"], score["network"], score["measure"])
                    == (seed, epochs, network, measure)
                )
                by_seed.setdefault("A_C alone", []).append(child)
                by_seed.setdefault("A_P alone", []).append(parent)
                for name in ("penalized", "printed"):
                    z = [
                        indicator(accuracy_child=a_c, accuracy_parent=a_p, beta_p=0.5, name=name)
                        for a_c, a_p in zip(child.tolist(), parent.tolist(), strict=True)
                    ]
                    by_seed.setdefault(f"{name}, beta_P = 0.5", []).append(np.array(z))
            for name, values in by_seed.items():
                rows.append(
                    {
                        "epochs": epochs,
                        "measure": measure,
                        "score": name,
                        "tau": round(float(np.mean([tau_of(each, accuracy_G) for each in values])), 2),
                        "r": round(float(np.mean([np.corrcoef(each, accuracy_G)[0, 1] for each in values])), 2),
                        "r, OPs held": round(
                            float(np.mean([partial_correlation(each, accuracy_G, read.ops_G) for each in values])), 2
                        ),
                    }
                )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="a table of architectures")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file; seeds in it are not run again")
    parser.add_argument("--seeds", default="0", help="of the shared networks, as 0,1")
    parser.add_argument("--epochs", default="1,2,4,8,12,16,24", help="after which the architectures are validated")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    epochs = [int(text) for text in arguments.epochs.split(",")]
    document: dict[str, Any] = {"schema": SCHEMA, "table": arguments.table.name, "environment": environment()}
    document["scores"] = json.loads(arguments.out.read_text())["scores"] if arguments.out.exists() else []
    for seed in (int(text) for text in arguments.seeds.split(",")):
        if not any(score["seed"] == seed for score in document["scores"]):
            document["scores"] += scores_of(arguments.table, seed=seed, epochs=epochs)
            document["rows"] = rows_of(document["scores"], arguments.table)
            write_json(arguments.out, document)
    print_table("Scores in shared networks against full trainings", rows_of(document["scores"], arguments.table))


if __name__ == "__main__":
    main()
