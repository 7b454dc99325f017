"""Is what a search finds better than a random genotype? Against a table of architectures, on held-out training images.

Every strategy searches on the table's own training images, with several seeds; what it finds is trained as the table's
genotypes were, with the table's seeds, and judged on the same images, which no search and no training saw. The mean of
the table is that of random draws. The file is written after every run, and the same command goes on with what is
missing. With --again FOUND nothing is searched: what the searches of that file found is trained with other settings of
the network (--again-set), such as more channels.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.held_out import held_out, settings_of_table, train
from benchmarks.recipe import paired
from benchmarks.tables import Rows, environment, print_table
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.efficiency.estimate import estimate
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config, change_config, parse_override
from cpnas_cli.storage.documents import write_json
from cpnas_cli.storage.genotype_file import parse_genotype
from cpnas_cli.strategies import run_search
from cpnas_cli.strategies.base import Search

SCHEMA = "cpnas.found/1"

PUBLISHED_RULES = (
    "search.warmup_epochs=0",
    "search.scored_passes=0",
    "search.performance=accuracy",
    "search.evaluation=after_draw",
    "search.credit=draw",
    "search.num_left=1",
)

SEARCHES: dict[str, tuple[str, ...]] = {
    "fair": ("search.strategy=fair",),
    "spos": ("search.strategy=spos",),
    "cpnas": ("search.strategy=cpnas",),
    "bnas": ("search.strategy=bnas",),
    "cpnas to the last operation": ("search.strategy=cpnas", "search.num_left=1"),
    "bnas to the last operation": ("search.strategy=bnas", "search.num_left=1"),
    "halving": ("search.strategy=halving",),
    "pcdarts": ("search.strategy=pcdarts",),
    "cpnas by the published rules": ("search.strategy=cpnas", *PUBLISHED_RULES),
    "cpnas as printed": (
        "search.strategy=cpnas",
        "search.indicator=printed",
        "search.beta_p=2",
        *PUBLISHED_RULES,
    ),
}
"""What is compared: the settings of each, beside those of the table. A comma parts names on the command line."""


def search(config: Config, dataset: Dataset) -> tuple[Genotype, float]:
    """What a search finds, and how many seconds of the processor it took."""
    with tempfile.TemporaryDirectory(prefix="cpnas-found-") as name:
        started = time.process_time()
        document = run_search(Search(RunFolder(Path(name)), config, dataset, open_device("cpu")))
        return parse_genotype(document), time.process_time() - started


def rows_of(document: Mapping[str, Any], table: Mapping[str, Any]) -> Rows:
    """Per kind of search: the difference from the mean of the table's genotypes, seed by seed of the searches."""
    means = _means_by_seed(table)
    everybody = [
        statistics.fmean(run["accuracy_child"] for run in row["runs"])
        for row in table["genotypes"]
        if len(row["runs"]) == len(means)
    ]
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in document["runs"]):
        runs = [run for run in document["runs"] if run["kind"] == kind]
        found = [statistics.fmean(run["accuracies"].values()) for run in runs]
        mean = statistics.fmean(means.values())
        difference, width = paired([100 * (value - mean) for value in found])
        above = [sum(value > other for other in everybody) / len(everybody) for value in found]
        rows.append(
            {
                "search": kind,
                "seeds": len(runs),
                "accuracy %": 100 * statistics.fmean(found),
                "above random, points": difference,
                "95 % +-": width,
                "above % of the table": 100 * statistics.fmean(above),
                "KiB": statistics.fmean(run["size_bits"] for run in runs) / 8192,
                "MOPs": statistics.fmean(run["ops"] for run in runs) / 1e6,
                "search s": statistics.fmean(run["seconds"] for run in runs),
            }
        )
    return rows


def _means_by_seed(table: Mapping[str, Any]) -> dict[int, float]:
    """Of the genotypes that were trained with every seed."""
    seeds = sorted({run["seed"] for row in table["genotypes"] for run in row["runs"]})
    whole = [row for row in table["genotypes"] if len(row["runs"]) == len(seeds)]
    return {
        seed: statistics.fmean(run["accuracy_child"] for row in whole for run in row["runs"] if run["seed"] == seed)
        for seed in seeds
    }


def _with(config: Config, settings: Sequence[str]) -> Config:
    return change_config(config, dict(map(parse_override, settings)))


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file; what is in it is not run again")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the searches")
    parser.add_argument("--searches", default=",".join(SEARCHES), help="which, separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="of every search")
    parser.add_argument("--again", type=Path, help="a JSON file of this script, whose searches are not run again")
    parser.add_argument(
        "--again-set", action="append", default=[], metavar="NETWORK.KEY=VALUE", help="of every training of --again"
    )
    arguments = parser.parse_args(words)
    if arguments.again_set and not arguments.again:
        parser.error("--again-set: expected with --again; a search and its trainings have one network")
    kinds = arguments.searches.split(",")
    if unknown := set(kinds) - set(SEARCHES):
        parser.error(f"--searches: {', '.join(sorted(unknown))}: expected of {', '.join(SEARCHES)}")
    torch.set_num_threads(1)
    table = json.loads(arguments.table.read_text())
    settings = [*arguments.set, *arguments.again_set]
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "table": arguments.table.name,
        "settings": settings,
        "environment": environment(),
        "runs": [],
    }
    if arguments.out.exists():
        document = json.loads(arguments.out.read_text())
        if document["settings"] != settings:
            parser.error(f"--out: {arguments.out} was made with {document['settings']}, not with {settings}")
    done = {(run["kind"], run["seed"]) for run in document["runs"]}
    elsewhere = json.loads(arguments.again.read_text())["runs"] if arguments.again else []
    searched = {(run["kind"], run["seed"]): run for run in elsewhere}
    wanted = [(kind, seed) for seed in map(int, arguments.seeds.split(",")) for kind in kinds]
    if arguments.again and (missing := [f"{kind} {seed}" for kind, seed in wanted if (kind, seed) not in searched]):
        parser.error(f"--again: {arguments.again} has no search of {', '.join(missing)}")
    dataset = held_out(settings_of_table(table, arguments.set), table["num_held_out"])
    for kind, seed in wanted:
        if (kind, seed) in done:
            continue
        config = settings_of_table(table, [*arguments.set, *SEARCHES[kind], f"seed={seed}"])
        if arguments.again:
            run = searched[kind, seed]
            genotype, seconds = Genotype(tuple(run["normal"]), tuple(run["reduce"])), run["seconds"]
        else:
            genotype, seconds = search(config, dataset)
        trained = [
            _with(settings_of_table(table, [f"seed={training_seed}"]), arguments.again_set)
            for training_seed in _means_by_seed(table)
        ]
        shape = Surroundings(config.data.image_size, dataset.train.images.shape[1], dataset.num_classes)
        counts = estimate(dataflow_of(trained[0].network, genotype, shape, precision="binary"))
        document["runs"].append(
            {
                "kind": kind,
                "seed": seed,
                "settings": list(SEARCHES[kind]),
                "normal": list(genotype.normal),
                "reduce": list(genotype.reduce),
                "accuracies": {
                    str(seeded.seed): train(seeded, dataset, genotype).result["accuracy_test"] for seeded in trained
                },
                "size_bits": counts.storage.total,
                "ops": counts.ops,
                "seconds": round(seconds, 1),
            }
        )
        write_json(arguments.out, document)
        print(kind, seed, document["runs"][-1]["accuracies"], flush=True)
    print_table("What is found, on held-out training images", rows_of(document, table))


if __name__ == "__main__":
    main()
