"""Which candidates stay, and how many. Pure functions of plain data."""

import math
from typing import Any

from cpnas_cli.search_space import CELL_KINDS, EDGES, NUM_OPERATIONS, Candidates
from cpnas_cli.strategies.additive_effects import Effects
from cpnas_cli.strategies.budgets.feasibility import Feasibility, abandon_within
from cpnas_cli.strategies.cpnas.indicator import CellEvaluation, abandon, evaluate_operations


def num_left(num_candidates: int) -> int:
    """How many candidates of an edge stay when the worse half goes: half of them, rounded up."""
    return math.ceil(num_candidates / 2)


def numbers_of_candidates() -> list[int]:
    """K of every round: 8, 4, 2."""
    numbers = [NUM_OPERATIONS]
    while num_left(numbers[-1]) > 1:
        numbers.append(num_left(numbers[-1]))
    return numbers


def keep_better_half(
    candidates: Candidates, effects: Effects, feasibility: Feasibility | None = None
) -> list[dict[str, Any]]:
    """The worse half of the candidates of every edge is abandoned, one after the other, such that budgets can be kept.

    The evaluation of (4.16) is that of the effects instead of mean indicators, so that who goes, who goes in a tie and
    what keeps a cell connected are those of Algorithm 9.

    Returns a history record for each operation that every edge gives up.
    """
    records: list[dict[str, Any]] = []
    wanted = num_left(candidates.num_candidates)
    while candidates.num_candidates > wanted:
        evaluations: dict[str, CellEvaluation] = {
            kind: tuple(
                evaluate_operations({op: effect[op] for op in alive})
                for alive, effect in zip(cell, effects[kind], strict=True)
            )
            for kind, cell in candidates.cells().items()
        }
        if feasibility is None:
            decisions = {kind: abandon(evaluations[kind]) for kind in CELL_KINDS}
        else:
            decisions = abandon_within(feasibility, evaluations)
        record: dict[str, Any] = {"event": "abandon", "num_candidates": candidates.num_candidates}
        for kind in CELL_KINDS:
            record[kind] = [
                {"from": source, "to": node, "evaluation": evaluation, "abandoned": gone}
                for (source, node), evaluation, gone in zip(EDGES, evaluations[kind], decisions[kind][1], strict=True)
            ]
        records.append(record)
        candidates = Candidates(**{kind: decisions[kind][0] for kind in CELL_KINDS})
    return records
