"""The random baseline: one operation drawn uniformly on every edge, no training.

One genotype says nothing about the strategy; compare several seeds and report their spread.
"""

from cpnas_cli.space import NUM_OPERATIONS, Genotype, draw_uniform
from cpnas_cli.strategies.base import Search


def search_random(search: Search) -> Genotype:
    """A genotype drawn uniformly from the connected ones; depends on the seed only."""
    search.run.truncate_history(0)
    genotype = draw_uniform(seed=search.config.seed)
    record = {
        "event": "draw",
        "num_candidates": NUM_OPERATIONS,
        "pass": 0,
        "draw": 0,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
        "accuracy_child": None,
        "accuracy_parent": None,
        "z": None,
        "seconds": 0.0,
    }
    search.run.append_history(record)
    return genotype
