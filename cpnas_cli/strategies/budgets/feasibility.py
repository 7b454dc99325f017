"""What the budgets of a search allow: which genotypes, draws, candidates and last choices.

A genotype is within the budgets if it takes no more of any resource than its limit. All draws derive from the generator
that they are given; all choices are functions of their arguments.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cpnas_cli.errors import UsageError
from cpnas_cli.randomness import python_generator, shuffled
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    NUM_OPERATIONS,
    OPERATIONS,
    Candidates,
    CellCandidates,
    Genotype,
    draw_uniform,
    is_connected,
)
from cpnas_cli.strategies.budgets.choice import best_choice
from cpnas_cli.strategies.budgets.demand import SHAPE, Demand, chosen_of, genotype_at, is_within
from cpnas_cli.strategies.budgets.resource import Budget, budgets_of, budgets_record, recorded_budgets
from cpnas_cli.strategies.cpnas.indicator import CellEvaluation, stay_without, weakest

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.settings import Config

NUM_ATTEMPTS = 1000
"""Uniform draws before one is repaired instead."""


class Searched(Protocol):
    """What a search is to its budgets."""

    @property
    def config(self) -> "Config": ...

    @property
    def dataset(self) -> "Dataset": ...


@dataclass(frozen=True)
class Feasibility:
    """What the budgets allow.

    Attributes:
      num_incoming: how many edges that are not `none` enter each node of what may be chosen; None: any number.
    """

    budgets: tuple[Budget, ...]
    num_incoming: int | None = None

    @property
    def _limits(self) -> list[tuple[Demand, float]]:
        return [(budget.demand, budget.limit) for budget in self.budgets]

    def admits(self, genotype: Genotype) -> bool:
        """Whether it is within all budgets."""
        return all(is_within(demand.of(genotype), limit) for demand, limit in self._limits)

    def record(self) -> dict[str, Any]:
        """What the history of the search begins with."""
        return budgets_record(self.budgets)

    # ---------------------------------------------------------------- draws

    def draw(self, *, seed: int, draw: int = 0) -> Genotype:
        """A connected genotype within the budgets.

        Drawn uniformly until one is; if none of `NUM_ATTEMPTS` is, the first one is repaired. The first attempt is what
        a search without budgets draws.
        """
        for attempt in range(NUM_ATTEMPTS):
            genotype = draw_uniform(seed=seed, draw=draw, attempt=attempt)
            if self.admits(genotype):
                return genotype
        first = draw_uniform(seed=seed, draw=draw)
        return self.repaired(first, ALL_CANDIDATES, python_generator(seed, "repaired random genotype", draw))

    def repaired(self, genotype: Genotype, candidates: Candidates, generator: random.Random) -> Genotype:
        """The genotype, if it is within the budgets; else a connected one that is, of the candidates.

        Edges in random order get a random one of their cheaper candidates, until the genotype is within the budgets. If
        that leads nowhere, they get, one after the other, what the cheapest choice has.
        """
        if self.admits(genotype):
            return genotype
        chosen, prices = chosen_of(genotype), self._prices()
        alive = alive_of(candidates)
        places = [(kind, edge) for kind in range(SHAPE[0]) for edge in range(SHAPE[1])]
        is_changed = True
        while is_changed:
            is_changed = False
            for place in shuffled(places, generator):
                cheaper = np.flatnonzero(alive[place] & (prices[place] < prices[place][chosen[place].argmax()]))
                if not len(cheaper):
                    continue
                changed = _with(chosen, place, int(cheaper[int(generator.random() * len(cheaper))]))
                found = genotype_at(changed)
                if not is_connected(found.cells()[CELL_KINDS[place[0]]]):
                    continue
                chosen, is_changed = changed, True
                if self._is_allowed(found):
                    return found
        cheapest = self._cheapest(alive, prices)
        for place in shuffled(places, generator):
            chosen = _with(chosen, place, int(cheapest[place].argmax()))
            found = genotype_at(chosen)
            if self._is_allowed(found):
                return found
        return genotype_at(cheapest)

    def _is_allowed(self, genotype: Genotype) -> bool:
        return self.admits(genotype) and all(map(is_connected, genotype.cells().values()))

    def _prices(self) -> np.ndarray:
        """Of an operation on an edge, in parts of the limits together: `SHAPE`."""
        return sum((demand.most / limit for demand, limit in self._limits), np.zeros(SHAPE))

    def _cheapest(self, alive: np.ndarray, prices: np.ndarray) -> np.ndarray:
        found = best_choice(-prices, alive, self._limits)
        assert found is not None, "candidates are given up only where something within the budgets stays"
        return found.chosen

    # ---------------------------------------------------------------- choices

    def best(self, scores: Mapping[str, np.ndarray]) -> Genotype:
        """The genotype within the budgets whose scores have the largest sum.

        Args:
          scores: of each kind of cell, float64 (14, 8).
        """
        found = best_choice(
            np.stack([scores[kind] for kind in CELL_KINDS]),
            np.ones(SHAPE, bool),
            self._limits,
            num_incoming=self.num_incoming,
        )
        assert found is not None, "budgets that nothing keeps are refused before a search"
        return genotype_at(found.chosen)

    def abandon(
        self, evaluations: Mapping[str, Sequence[Mapping[str, float]]], weakest: Mapping[str, Sequence[str]]
    ) -> dict[str, tuple[str, ...]]:
        """The operation to abandon on every edge, so that what stays holds a genotype within the budgets.

        Those that an unlimited search abandons, if they do; else those with the smallest sum of evaluations that do.
        With one candidate left on every edge that is the genotype with the largest sum.

        Args:
          evaluations: of each kind of cell, of every edge, of the operations alive.
          weakest: of each kind of cell, what an unlimited search abandons on every edge.
        """
        scores = np.zeros(SHAPE)
        alive, stay = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
        for kind, cell in enumerate(CELL_KINDS):
            for edge, evaluation in enumerate(evaluations[cell]):
                for op, value in evaluation.items():
                    place = kind, edge, OPERATIONS.index(op)
                    scores[place], alive[place], stay[place] = value, True, op != weakest[cell][edge]
        if best_choice(np.zeros(SHAPE), stay, self._limits) is not None:
            return {cell: tuple(weakest[cell]) for cell in CELL_KINDS}
        found = best_choice(scores, alive, self._limits, giving_up=True)
        assert found is not None, "candidates are given up only where something within the budgets stays"
        given_up = genotype_at(found.given_up).cells()
        return {cell: given_up[cell] for cell in CELL_KINDS}

    def costliness(self, kind: str, edge: int) -> dict[str, float]:
        """Of every operation of an edge, in parts of the limits together."""
        return dict(zip(OPERATIONS, self._prices()[CELL_KINDS.index(kind), edge].tolist(), strict=True))

    # ---------------------------------------------------------------- what cannot be met

    def check(self) -> None:
        """Refuse budgets that no genotype keeps.

        Raises:
          UsageError: which one, and the smallest that can be kept.
        """
        if best_choice(np.zeros(SHAPE), np.ones(SHAPE, bool), self._limits, num_incoming=self.num_incoming):
            return
        for budget in self.budgets:
            least = self._least(budget, [])
            if least is None or not is_within(least, budget.limit):
                raise UsageError(
                    f"{_typed(budget)}: the smallest network of these settings takes {_shown(budget, least)}; ask for "
                    "more, or make the network smaller, e.g. with --set network.num_channels=N"
                )
        first, *others = self.budgets
        least = self._least(first, others)
        smallest = f"{_shown(first, least)} is the least with the others kept" if least else "the others exclude it"
        raise UsageError(
            f"no network of these settings keeps {' and '.join(map(_typed, self.budgets))} together: of "
            f"{first.resource.option} {smallest}; ask for more of one"
        )

    def _least(self, budget: Budget, others: Sequence[Budget]) -> float | None:
        """The least of a resource that a genotype within the other budgets takes."""
        demand = budget.demand
        largest = demand.most.max()
        found = best_choice(
            -demand.most / largest,
            np.ones(SHAPE, bool),
            [(other.demand, other.limit) for other in others],
            node_score=-demand.nodes / largest,
            num_incoming=self.num_incoming,
        )
        return None if found is None else demand.of(genotype_at(found.chosen))


def abandon_within(
    feasibility: Feasibility,
    evaluations: Mapping[str, CellEvaluation],
    costs: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, tuple[CellCandidates, tuple[str, ...]]]:
    """`indicator.abandon` of every kind of cell within the budgets: what stays, and what goes.

    Args:
      costs: of each kind of cell, of every edge, what decides between equal evaluations; see `weakest`.
    """
    nothing = [{}] * len(EDGES)
    weakest_ones = {
        kind: list(map(weakest, cell, costs[kind] if costs else nothing)) for kind, cell in evaluations.items()
    }
    abandoned = feasibility.abandon(evaluations, weakest_ones)
    return {kind: (stay_without(cell, abandoned[kind]), abandoned[kind]) for kind, cell in evaluations.items()}


def feasibility_of(
    search: Searched, history: Sequence[Mapping[str, Any]] = (), *, num_incoming: int | None = None
) -> Feasibility | None:
    """Of a search; of one that goes on as its history says; None if it has no budget."""
    recorded = recorded_feasibility(history, num_incoming=num_incoming)
    if recorded is not None or not search.config.search.budgets():
        return recorded
    return Feasibility(budgets_of(search.config, search.dataset), num_incoming)


def recorded_feasibility(
    history: Sequence[Mapping[str, Any]], *, num_incoming: int | None = None
) -> Feasibility | None:
    """Of a search whose history begins with its budgets; None if it has none."""
    budgets = recorded_budgets(history)
    return Feasibility(budgets, num_incoming) if budgets else None


def alive_of(candidates: Candidates) -> np.ndarray:
    """Whether an operation is alive on an edge: bool, `SHAPE`."""
    return np.array([[[op in ops for op in OPERATIONS] for ops in cell] for cell in candidates.cells().values()])


def _with(chosen: np.ndarray, place: tuple[int, int], op: int) -> np.ndarray:
    changed = chosen.copy()
    changed[place] = np.arange(NUM_OPERATIONS) == op
    return changed


def _typed(budget: Budget) -> str:
    return f"{budget.resource.option} {budget.asked}"


def _shown(budget: Budget, least: float | None) -> str:
    return "-" if least is None else budget.show(least * (1 + budget.demand.margin))
