"""Evolution of architectures: who the parents are, mutations, crossovers, the next child. Pure functions of plain data.

Source: section 3.3 and algorithm 1 of arXiv 1904.00420. Ours: a mutated edge never draws what it had.
"""

import random
from collections.abc import Callable, Collection, Sequence

from cpnas_cli.search_space import OPERATIONS, Genotype, is_connected

NUM_ATTEMPTS = 100
"""To breed a child that may be scored, and then to draw one."""


def fittest(genotypes: Sequence[Genotype], scores: Sequence[float], count: int) -> list[Genotype]:
    """The different ones with the highest scores, the best first, at most so many; of equal scores the earlier."""
    order = sorted(range(len(genotypes)), key=lambda number: (-scores[number], number))
    return list(dict.fromkeys(genotypes[number] for number in order))[:count]


def mutated(parent: Genotype, probability: float, generator: random.Random) -> Genotype:
    """Every edge has, with this probability, another operation, each of the others alike."""

    def mutated_edge(op: str) -> str:
        if generator.random() >= probability:
            return op
        others = [other for other in OPERATIONS if other != op]
        return others[int(generator.random() * len(others))]

    return Genotype(**{kind: tuple(map(mutated_edge, cell)) for kind, cell in parent.cells().items()})


def crossed(first: Genotype, second: Genotype, generator: random.Random) -> Genotype:
    """Every edge is that of one of the two, by the toss of a coin."""
    pairs = {kind: zip(cell, second.cells()[kind], strict=True) for kind, cell in first.cells().items()}
    return Genotype(
        **{kind: tuple(mine if generator.random() < 0.5 else other for mine, other in pairs[kind]) for kind in pairs}
    )


def bred(parents: Sequence[Genotype], *, mutates: bool, probability: float, generator: random.Random) -> Genotype:
    """A mutation of one of the parents, or a crossover of two, if there are two; whatever comes of it."""
    first = int(generator.random() * len(parents))
    if mutates or len(parents) == 1:
        return mutated(parents[first], probability, generator)
    second = int(generator.random() * (len(parents) - 1))
    return crossed(parents[first], parents[second + (second >= first)], generator)


def new_one(
    scored: Collection[Genotype],
    ways: Sequence[Callable[[], Genotype]],
    *,
    admits: Callable[[Genotype], bool] = lambda _: True,
) -> Genotype:
    """A connected genotype that is within the budgets and was not scored before.

    Args:
      scored: those that were.
      ways: to make one; each is tried `NUM_ATTEMPTS` times, then the next. What the last one makes is connected and
        within the budgets: it is taken at last as it is, as where budgets leave nothing that was not scored.
    """
    made = None
    for way in ways:
        for _ in range(NUM_ATTEMPTS):
            made = way()
            if made not in scored and all(map(is_connected, made.cells().values())) and admits(made):
                return made
    assert made is not None, "there is a way"
    return made
