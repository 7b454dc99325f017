"""How the z of draws becomes credit of the operations that they held: what e, (4.16), is computed from.

Pure functions of plain data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cpnas_cli.search_space import Candidates, Genotype
from cpnas_cli.strategies.additive_effects import Effects, Position, additive_effects
from cpnas_cli.strategies.cpnas.indicator import mean_indicator


@dataclass(frozen=True)
class ValidatedDraw:
    """A draw, its indicator (4.15), and its place in the search: round, and draw of that round over all passes."""

    genotype: Genotype
    z: float
    position: Position


def mean_of_draws(draws: Sequence[ValidatedDraw], candidates: Candidates) -> Effects:
    """The mean z of the draws of the last round that held the operation: mean_t z_k of (4.16).

    Of an operation that none of them held, which happens only where draws are kept within budgets, that of all (ours).
    """
    last = draws[-1].position[0]
    given: dict[str, list[dict[str, list[float]]]] = {
        kind: [{op: [] for op in alive} for alive in cell] for kind, cell in candidates.cells().items()
    }
    for draw in draws:
        if draw.position[0] == last:
            for kind, cell in draw.genotype.cells().items():
                for edge, op in enumerate(cell):
                    given[kind][edge][op].append(draw.z)
    of_all = mean_indicator([draw.z for draw in draws if draw.position[0] == last])
    return {
        kind: [{op: mean_indicator(values) if values else of_all for op, values in edge.items()} for edge in edges]
        for kind, edges in given.items()
    }


def effects_of_all_draws(draws: Sequence[ValidatedDraw], candidates: Candidates) -> Effects:
    """What the operation adds to z, by least squares over all draws of all rounds; see `additive_effects`.

    Differs from the paper, where every operation of a draw is given all of its z, and with one pass that of no other:
    here it is given its share, and what a draw has from its position it keeps.
    """
    return additive_effects(
        [draw.genotype for draw in draws],
        [draw.z for draw in draws],
        candidates,
        [draw.position for draw in draws],
        common=True,
    )


CREDITS: dict[str, Callable[[Sequence[ValidatedDraw], Candidates], Effects]] = {
    "draw": mean_of_draws,
    "regression": effects_of_all_draws,
}
"""By their names in `search.credit`."""
