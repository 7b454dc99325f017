"""Architectures drawn at random, for steps and for scores. Pure functions of plain data."""

import itertools
import random
from collections.abc import Iterator

from cpnas_cli.randomness import python_generator, shuffled
from cpnas_cli.search_space import ALL_CANDIDATES, CELL_KINDS, Candidates, Genotype, draw_connected, is_connected
from cpnas_cli.strategies.budgets.feasibility import Feasibility


def draw_one(generator: random.Random, feasibility: Feasibility | None = None) -> Genotype:
    """An architecture drawn uniformly from the connected ones; one that is beyond a budget is repaired."""
    drawn = draw_connected(generator)
    return drawn if feasibility is None else feasibility.repaired(drawn, ALL_CANDIDATES, generator)


def draw_candidates(
    candidates: Candidates, generator: random.Random, feasibility: Feasibility | None = None
) -> list[Genotype]:
    """K connected architectures in which every candidate of every edge stands exactly once.

    On each edge the candidates are put into a random order and the e-th architecture takes the e-th; all are drawn
    again if one is not connected. One that is beyond a budget is repaired: then costly candidates stand in fewer.

    Source: strict fairness, section 3.2 of arXiv 1907.01845.
    """
    while True:
        orders = {kind: [shuffled(alive, generator) for alive in cell] for kind, cell in candidates.cells().items()}
        drawn = [
            Genotype(**{kind: tuple(order[place] for order in orders[kind]) for kind in CELL_KINDS})
            for place in range(candidates.num_candidates)
        ]
        if all(is_connected(cell) for genotype in drawn for cell in genotype.cells().values()):
            break
    return drawn if feasibility is None else [feasibility.repaired(each, candidates, generator) for each in drawn]


def drawn_for_scores(
    candidates: Candidates, *, seed: int, purpose: str, feasibility: Feasibility | None = None
) -> Iterator[Genotype]:
    """The architectures of scores, without end; as in a pass, every candidate stands as often as others."""
    for pass_index in itertools.count():
        generator = python_generator(seed, purpose, candidates.num_candidates, pass_index)
        yield from draw_candidates(candidates, generator, feasibility)
