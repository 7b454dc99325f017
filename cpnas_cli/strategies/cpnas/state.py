"""Where Algorithm 9 stands: candidates, pass, draw, and the indicators given so far. No tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpnas_cli.randomness import python_generator
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    NUM_OPERATIONS,
    Candidates,
    CellCandidates,
    Genotype,
    draw_pass,
)
from cpnas_cli.strategies.budgets.feasibility import Feasibility, recorded_feasibility
from cpnas_cli.strategies.cpnas.indicator import (
    CellEvaluation,
    abandon,
    evaluate_operations,
    mean_indicator,
    stay_without,
    weakest,
)


def num_draws_of_search(num_passes: int) -> int:
    """T * (8 + 7 + ... + 2) = 35 T draws of a Child and a Parent."""
    return num_passes * sum(range(2, NUM_OPERATIONS + 1))


@dataclass
class SearchState:
    """Where Algorithm 9 stands; a function of the history alone."""

    num_passes: int
    feasibility: Feasibility | None = None  # of a search with budgets
    candidates: Candidates = ALL_CANDIDATES
    pass_index: int = 0
    draw_index: int = 0
    # z of every draw of the current round that held the operation: [kind][edge][operation]
    indicators: dict[str, list[dict[str, list[float]]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clear()

    @property
    def finished(self) -> bool:
        return self.candidates.num_candidates == 1

    def draw(self, *, seed: int) -> Genotype:
        """The architecture that is to be trained next; repaired where it is beyond a budget."""
        genotype = draw_pass(self.candidates, seed=seed, pass_index=self.pass_index)[self.draw_index]
        if self.feasibility is None:
            return genotype
        place = self.candidates.num_candidates, self.pass_index, self.draw_index
        return self.feasibility.repaired(genotype, self.candidates, python_generator(seed, "repaired draw", *place))

    def give(self, genotype: Genotype, z: float) -> None:
        """Give z to every operation drawn, and step on to the next draw or pass."""
        for kind, cell in genotype.cells().items():
            for edge, op in enumerate(cell):
                self.indicators[kind][edge][op].append(z)
        self.draw_index += 1
        if self.draw_index == self.candidates.num_candidates:
            self.draw_index, self.pass_index = 0, self.pass_index + 1

    @property
    def round_complete(self) -> bool:
        return self.pass_index == self.num_passes

    def abandon(self) -> dict[str, Any]:
        """End the round; returns its history record."""
        num_candidates = self.candidates.num_candidates
        evaluations: dict[str, CellEvaluation] = {
            kind: tuple(evaluate_operations(_means(edge)) for edge in edges) for kind, edges in self.indicators.items()
        }
        if self.feasibility is None:
            decisions = {kind: abandon(evaluations[kind]) for kind in CELL_KINDS}
        else:
            decisions = self._abandon_within(self.feasibility, evaluations)
        self.candidates = Candidates(normal=decisions["normal"][0], reduce=decisions["reduce"][0])
        self.pass_index = 0
        self._clear()
        record: dict[str, Any] = {"event": "abandon", "num_candidates": num_candidates}
        for kind in CELL_KINDS:
            record[kind] = [
                {"from": source, "to": node, "evaluation": evaluation, "abandoned": gone}
                for (source, node), evaluation, gone in zip(EDGES, evaluations[kind], decisions[kind][1], strict=True)
            ]
        return record

    def _abandon_within(
        self, feasibility: Feasibility, evaluations: dict[str, CellEvaluation]
    ) -> dict[str, tuple[CellCandidates, tuple[str, ...]]]:
        """`abandon` of both cells within the budgets; of equal operations, one of which was never trained, the
        costliest goes.
        """
        costs = {
            kind: [
                feasibility.costliness(kind, edge) if not all(values.values()) else {}
                for edge, values in enumerate(edges)
            ]
            for kind, edges in self.indicators.items()
        }
        weakest_ones = {kind: list(map(weakest, evaluations[kind], costs[kind])) for kind in CELL_KINDS}
        abandoned = feasibility.abandon(evaluations, weakest_ones)
        return {kind: (stay_without(evaluations[kind], abandoned[kind]), abandoned[kind]) for kind in CELL_KINDS}

    def _clear(self) -> None:
        self.indicators = {
            kind: [{op: [] for op in alive} for alive in cell] for kind, cell in self.candidates.cells().items()
        }

    @staticmethod
    def replay(history: list[dict[str, Any]], *, num_passes: int) -> "SearchState":
        """The state after these records."""
        state = SearchState(num_passes, recorded_feasibility(history))
        for record in history:
            if record["event"] == "draw":
                state.give(Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])), record["z"])
            elif record["event"] == "abandon":
                state.abandon()
        return state


def _means(edge: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean z of every operation of an edge; of one that no draw of the round held, that of all draws (ours).

    Without budgets there is none: every operation is drawn in every pass.
    """
    of_all = mean_indicator([z for values in edge.values() for z in values])
    return {op: mean_indicator(values) if values else of_all for op, values in edge.items()}
