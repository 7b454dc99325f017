"""The random baseline: one operation drawn uniformly on every edge, no training.

One genotype says nothing about the strategy; compare several seeds and report their spread.
"""

from cpnas_cli.space import Genotype, draw_uniform
from cpnas_cli.strategies.base import Search


def search_random(search: Search) -> Genotype:
    """A genotype drawn uniformly from the connected ones; depends on the seed only."""
    return draw_uniform(seed=search.config.seed)
