"""Are the effects of operations additive? What they promise of the best architecture, and what it is scored itself.

To the scores of random architectures in the shared Child of finished searches by `spos` additive effects are fitted;
the architecture of the operations with the highest ones is scored in the same shared Child. Beside it stands the best
of the search, which is chosen by whole scores.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.tables import Rows, print_table
from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import ALL_CANDIDATES, CELL_KINDS, Genotype
from cpnas_cli.strategies.additive_effects import additive_effects
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.spos.search import journal_of, shared_child_of


def rows_of(folder: Path) -> Rows:
    """One row with a part that is common to an operation on every edge, as `cpnas` fits them, and one without it."""
    run = RunFolder(folder)
    config = run.config()
    search = Search(run, config, load_dataset(config.data), open_device("cpu"))
    shared = shared_child_of(search)
    saved = journal_of(run).resume()
    if saved is None:
        raise SystemExit(f"{folder} holds no search by spos; run cpnas search --strategy spos --out {folder}")
    shared.restore(saved.tensors, path=journal_of(run).checkpoint)
    scores = [record for record in saved.records if record["event"] == "draw"]
    drawn = [record for record in scores if record["generation"] == 0]
    mean = sum(record["z"] for record in drawn) / len(drawn)
    genotypes = [Genotype(tuple(record["normal"]), tuple(record["reduce"])) for record in drawn]
    rows = []
    for common in (True, False):
        effects = additive_effects(genotypes, [record["z"] for record in drawn], ALL_CANDIDATES, common=common)
        best = {kind: tuple(max(edge, key=lambda op: edge[op]) for edge in effects[kind]) for kind in CELL_KINDS}
        promised = sum(max(edge.values()) for kind in CELL_KINDS for edge in effects[kind])
        rows.append(
            {
                "search": folder.name,
                "common part": "yes" if common else "no",
                "random architectures": len(drawn),
                "their mean": mean,
                "promised above it": promised,
                "scored above it": shared.score(Genotype(**best)).probability - mean,
                "best of the search above it": max(record["z"] for record in scores) - mean,
            }
        )
    return rows


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="+", help="the folder of a finished search by spos")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    print_table("additive effects and whole scores", [row for folder in arguments.run for row in rows_of(folder)])


if __name__ == "__main__":
    main()
