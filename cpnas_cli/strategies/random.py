"""The random baseline: one operation drawn uniformly on every edge, no training.

One genotype says nothing about the strategy; compare several draws and report their spread.
"""

from cpnas_cli.runs.journal import Journal
from cpnas_cli.search_space import NUM_OPERATIONS, Genotype, draw_uniform
from cpnas_cli.strategies.base import Search

CHECKPOINT_SCHEMA = "cpnas.random-checkpoint/1"  # of which there is none: a draw is done at once


def search_random(search: Search) -> Genotype:
    """A genotype drawn uniformly from the connected ones; depends on the seed and `search.random_draw` only."""
    draw = search.config.search.random_draw
    genotype = draw_uniform(seed=search.config.seed, draw=draw)
    record = {
        "event": "draw",
        "num_candidates": NUM_OPERATIONS,
        "pass": 0,
        "draw": draw,
        "normal": list(genotype.normal),
        "reduce": list(genotype.reduce),
        "accuracy_child": None,
        "accuracy_parent": None,
        "z": None,
        "seconds": 0.0,
    }
    Journal(search.run, schema=CHECKPOINT_SCHEMA).begin([record])
    return genotype
