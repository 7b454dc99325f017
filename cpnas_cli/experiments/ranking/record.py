"""All that a table says about scores, as one document: `cpnas.ranking/1`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cpnas_cli.experiments.ranking.ranks import Pair, Rank, chosen, rank
from cpnas_cli.experiments.ranking.scores import left_out_effects, search_scores, training_scores, trivial_scores
from cpnas_cli.experiments.ranking.table import ArchitectureTable
from cpnas_cli.storage.documents import RANKING_SCHEMA

NUM_TRIALS = 2000
BEST_OF = (1, 2, 4, 8, 16, 32)


def ranking_document(
    table: ArchitectureTable, *, path: str, searches: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Every score against the table.

    Args:
      path: of the table, as it was typed.
      searches: {folder: history} of searches whose draws are to be judged.
    """
    mean_G = table.accuracy_child_GS.mean(1)
    trainings = {name: rank(pairs) for name, pairs in _training_pairs(table).items()}
    return {
        "schema": RANKING_SCHEMA,
        "table": path,
        "num_genotypes": len(table.genotypes),
        "num_incomplete": table.num_incomplete,
        "seeds": list(table.seeds),
        "accuracy_child": {
            "mean": float(mean_G.mean()),
            "std": float(mean_G.std(ddof=1)),
            "min": float(mean_G.min()),
            "max": float(mean_G.max()),
        },
        "accuracy_parent_mean": float(table.accuracy_parent_GS.mean()),
        "trivial": [_row(name, rank([(scores, mean_G)])) for name, scores in trivial_scores(table).items()],
        "trainings": [_row(name, ranked) for name, ranked in trainings.items()],
        "best_of": [_best_of(table, num) for num in BEST_OF if num <= len(table.genotypes)],
        "searches": [
            {"search": name, **_row(score, rank([(scores, mean_G)]))}
            for name, history in searches.items()
            for score, scores in search_scores(history, table.genotypes).items()
        ],
    }


def _training_pairs(table: ArchitectureTable) -> dict[str, list[Pair]]:
    """Scores of one training against the accuracies of the others: so no score is judged by its own noise."""
    pairs: dict[str, list[Pair]] = {}
    for index in range(len(table.seeds)):
        others_G = np.delete(table.accuracy_child_GS, index, axis=1).mean(1)
        scores = training_scores(table, index) | {
            "additive effects of four fifths on the last fifth": left_out_effects(table, index)
        }
        for name, scores_G in scores.items():
            pairs.setdefault(name, []).append((scores_G, others_G))
    return pairs


def _best_of(table: ArchitectureTable, num: int) -> dict[str, Any]:
    """Training so many random genotypes in full once and taking the best, judged by the other trainings."""
    generator = np.random.default_rng(0)
    found: list[tuple[float, float]] = []
    for _ in range(NUM_TRIALS):
        index = int(generator.integers(len(table.seeds)))
        drawn = generator.permutation(len(table.genotypes))[:num]
        first = int(np.argmax(table.accuracy_child_GS[drawn, index]))
        others_G = np.delete(table.accuracy_child_GS, index, axis=1).mean(1)
        found.append(chosen(drawn[first : first + 1], others_G))
    regret, share = np.mean(found, axis=0)
    return {"num_genotypes": num, "regret": float(regret), "share_beaten": float(share)}


def _row(name: str, ranked: Rank) -> dict[str, Any]:
    return {
        "name": name,
        "tau": ranked.tau,
        "interval_95": list(ranked.interval),
        "regret": ranked.regret,
        "share_beaten": ranked.share_beaten,
    }
