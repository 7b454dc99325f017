"""A table to search in: a seeded sample of the full space, each genotype trained with the final recipe, several seeds.

Genotype i is the uniform draw i of seed 0. Every run trains Parent and Child as the preset says, on its images, and is
judged on other training images, which are held out: a search that is judged by the table, and whatever is chosen by
it, has not seen the test set. The file is written after every run, and the same command goes on with what is missing,
on another machine too: a run that was not trained where the table was begun says so in its `environment`.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.held_out import held_out, train, trains_alike
from benchmarks.tables import environment, positive
from cpnas_cli.efficiency.estimate import estimate
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.network import build_network
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.networks.size import network_size
from cpnas_cli.search_space import draw_uniform
from cpnas_cli.settings import Config, load_config
from cpnas_cli.storage.documents import ARCHITECTURE_TABLE_SCHEMA, write_json

NETWORKS: tuple[NetworkName, ...] = ("child", "parent")


def run_of(config: Config, *, draw: int, num_held_out: int) -> dict[str, Any]:
    """Of the table: one genotype trained with one seed. Curves have a value per epoch."""
    torch.set_num_threads(1)
    dataset = held_out(config, num_held_out)
    trained = train(config, dataset, draw_uniform(seed=0, draw=draw), networks=NETWORKS)
    epochs = {name: [epoch for epoch in trained.epochs if epoch["network"] == name] for name in NETWORKS}
    return {
        "seed": config.seed,
        "environment": environment(),
        "accuracy_child": trained.result["accuracy_test"],
        "accuracy_parent": trained.result["accuracy_parent_test"],
        "seconds_child": trained.result["seconds"],
        "seconds_parent": trained.result["seconds_parent"],
        **{f"loss_{name}": [round(epoch["loss"], 5) for epoch in epochs[name]] for name in NETWORKS},
        **{
            f"accuracy_train_{name}": [round(epoch["accuracy_train"], 5) for epoch in epochs[name]] for name in NETWORKS
        },
    }


def genotype_row(config: Config, shape: Surroundings, *, draw: int) -> dict[str, Any]:
    """Of the table: what a genotype is and takes, before anything is trained."""
    genotype = draw_uniform(seed=0, draw=draw)
    counts = estimate(dataflow_of(config.network, genotype, shape, precision="binary"))
    network = build_network(
        config.network,
        precision="binary",
        num_image_channels=shape.num_image_channels,
        num_classes=shape.num_classes,
        seed=0,
        genotype=genotype,
    )
    return {
        "draw": draw,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
        "size_bits": counts.storage.total,
        "ops": counts.ops,
        "macs": counts.macs,
        "num_parameters": network_size(network).num_parameters,
        "runs": [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; what is in it is not run again")
    parser.add_argument("--genotypes", type=positive, default=120)
    parser.add_argument("--preset", default="fashion-mnist-small")
    parser.add_argument("--held-out", type=positive, default=10000, help="training images that stand in for the test")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--workers", type=positive, default=1, help="processes of one thread")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(arguments.preset, overrides=arguments.set)
    dataset = held_out(config, arguments.held_out)
    shape = Surroundings(config.data.image_size, dataset.train.images.shape[1], dataset.num_classes)
    document: dict[str, Any] = {
        "schema": ARCHITECTURE_TABLE_SCHEMA,
        "preset": arguments.preset,
        "settings": arguments.set,
        "num_held_out": arguments.held_out,
        "config": config.model_dump(mode="json"),
        "environment": environment(),
        "genotypes": [],
    }
    if arguments.out.exists():
        document = json.loads(arguments.out.read_text())
        if not trains_alike(config, document) or document["num_held_out"] != arguments.held_out:
            raise SystemExit(f"{arguments.out} is a table of other settings; choose another --out")
    rows = document["genotypes"]
    for draw in range(len(rows), arguments.genotypes):
        rows.append(genotype_row(config, shape, draw=draw))
    done = {(row["draw"], run["seed"]) for row in rows for run in row["runs"]}
    seeds = [int(word) for word in arguments.seeds.split(",")]
    missing = [
        (row["draw"], seed) for seed in seeds for row in rows[: arguments.genotypes] if (row["draw"], seed) not in done
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, mp_context=context) as pool:
        tasks = {}
        for draw, seed in missing:
            seeded = load_config(arguments.preset, overrides=[*arguments.set, f"seed={seed}"])
            tasks[pool.submit(run_of, seeded, draw=draw, num_held_out=arguments.held_out)] = draw
        for task in as_completed(tasks):
            row = rows[tasks[task]]
            run = task.result()
            if run["environment"] == document["environment"]:
                del run["environment"]  # the table's own; a run says where it was trained if that was elsewhere
            row["runs"] = sorted([*row["runs"], run], key=lambda run: run["seed"])
            write_json(arguments.out, document)
            print(f"draw {row['draw']}: {row['runs'][-1]['accuracy_child']:.4f}", flush=True)


if __name__ == "__main__":
    main()
