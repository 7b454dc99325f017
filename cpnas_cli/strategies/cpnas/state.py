"""Where Algorithm 9 stands: candidates, pass, draw, and the indicators given so far. No tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cpnas_cli.randomness import python_generator
from cpnas_cli.runs.journal import BEGINNING
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
from cpnas_cli.strategies.budgets.feasibility import Feasibility, abandon_within, recorded_feasibility
from cpnas_cli.strategies.cpnas.credit import CREDITS, ValidatedDraw
from cpnas_cli.strategies.cpnas.indicator import CellEvaluation, abandon, evaluate_operations
from cpnas_cli.strategies.one_shot.draws import draw_candidates

if TYPE_CHECKING:
    from cpnas_cli.settings import SearchConfig

BEFORE_THE_ROUNDS = -1
"""In place of a round, of draws that are validated and not trained."""

WORK_OF_A_SCORE = 0.3
"""The time that a draw takes which is not trained, as a part of that of one which is."""

WORK_OF_A_PASS = 0.25
"""The time in which the draws of a pass are validated together, as a part of what they took; of three searches 0.22 to
0.35."""

DECISIONS = ("abandon", "choice")
"""The events of the history's records that end a round."""

WARMUP = "epoch"
"""The event of the history's records of the epochs before the first draw, one of each network."""


def num_draws_of_search(settings: "SearchConfig") -> int:
    """Those of a Child and a Parent that are trained: T * (8 + 7 + ... + 2) = 35 T where one candidate is left."""
    return settings.num_passes * sum(range(settings.num_left + 1, NUM_OPERATIONS + 1))


def num_scored_draws(settings: "SearchConfig") -> int:
    """Those that are validated and not trained, before the others."""
    return settings.scored_passes * NUM_OPERATIONS


def num_final_draws(settings: "SearchConfig") -> int:
    """Those that are validated and not trained, behind the others, one of which is chosen."""
    return settings.final_passes * settings.num_left if settings.num_left > 1 else 0


def num_epochs_of_search(settings: "SearchConfig") -> int:
    """Of the Child, or of the Parent: those of the warm-up, and one for each draw."""
    return settings.warmup_epochs + num_draws_of_search(settings)


@dataclass
class SearchState:
    """Where Algorithm 9 stands; a function of the history alone.

    Attributes:
      credit: see `search.credit`.
      scored_passes: before those of the first round, of draws that are validated and not trained.
      num_left: candidates of every edge among which a whole architecture is chosen; 1: all others are abandoned.
      final_passes: of draws of these, validated and not trained.
      num_warmed_up: epochs of the warm-up done.
      trained: draws of the current pass that are not validated yet.
      validated: all others of the search so far, those of earlier rounds too.
    """

    num_passes: int
    credit: str = "draw"
    feasibility: Feasibility | None = None  # of a search with budgets
    candidates: Candidates = ALL_CANDIDATES
    pass_index: int = 0
    draw_index: int = 0
    scored_passes: int = 0
    num_left: int = 1
    final_passes: int = 0
    num_warmed_up: int = 0
    trained: list[Genotype] = field(default_factory=list)
    validated: list[ValidatedDraw] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.candidates.num_candidates == 1

    def draw(self, *, seed: int) -> Genotype:
        """The architecture that is to be trained or validated next; repaired where it is beyond a budget."""
        if self.chooses:
            generator = python_generator(seed, "final draws", self.pass_index)
            return draw_candidates(self.candidates, generator, self.feasibility)[self.draw_index]
        genotype = draw_pass(self.candidates, seed=seed, pass_index=self.pass_index)[self.draw_index]
        if self.feasibility is None:
            return genotype
        place = self.candidates.num_candidates, self.pass_index, self.draw_index
        return self.feasibility.repaired(genotype, self.candidates, python_generator(seed, "repaired draw", *place))

    def warm_up_draws(self, count: int, *, seed: int) -> list[Genotype]:
        """So many architectures for the steps of the next epoch of the warm-up, every candidate as often as others."""
        generator, drawn = python_generator(seed, "warm-up", self.num_warmed_up), list[Genotype]()
        while len(drawn) < count:
            drawn += draw_candidates(self.candidates, generator, self.feasibility)
        return drawn[:count]

    def train(self, genotype: Genotype) -> None:
        """The draw is trained: step on to the next one of the pass."""
        self.trained.append(genotype)
        self.draw_index += 1

    def give(self, z: Sequence[float]) -> None:
        """Give the draws that are trained and not validated their z, in their order; the last one ends its pass."""
        turn, size = self._turn, self.candidates.num_candidates
        if self.scores_only and not self.chooses:
            turn = BEFORE_THE_ROUNDS
        first = self.pass_index * size + self.draw_index - len(self.trained)
        for step, (genotype, one) in enumerate(zip(self.trained, z, strict=True), start=first):
            self.validated.append(ValidatedDraw(genotype, one, (turn, step)))
        self.trained = []
        if self.draw_index == size:
            self.draw_index, self.pass_index = 0, self.pass_index + 1

    @property
    def pass_is_trained(self) -> bool:
        """Whether all draws of the pass are trained, and some not validated."""
        return self.draw_index == self.candidates.num_candidates

    @property
    def scores_only(self) -> bool:
        """Whether the next draw is validated and not trained."""
        return self.chooses or (self._is_first_round and self.pass_index < self.scored_passes)

    @property
    def chooses(self) -> bool:
        """Whether whole architectures are compared, and no operation is abandoned any more."""
        return 1 < self.candidates.num_candidates == self.num_left

    @property
    def round_complete(self) -> bool:
        if self.chooses:
            return self.pass_index == self.final_passes
        return self.pass_index == self.num_passes + (self.scored_passes if self._is_first_round else 0)

    @property
    def _turn(self) -> int:
        """The number of the round."""
        return NUM_OPERATIONS - self.candidates.num_candidates

    @property
    def _is_first_round(self) -> bool:
        return self.candidates.num_candidates == NUM_OPERATIONS

    def decide(self) -> dict[str, Any]:
        """End the round; returns its history record."""
        return self._choose() if self.chooses else self.abandon()

    def _choose(self) -> dict[str, Any]:
        """The draw of the round with the highest z, of equal ones the first, is what is found."""
        num_candidates = self.candidates.num_candidates
        best = max((draw for draw in self.validated if draw.position[0] == self._turn), key=lambda draw: draw.z)
        cells = best.genotype.cells()
        self.candidates = Candidates(**{kind: tuple((op,) for op in cells[kind]) for kind in CELL_KINDS})
        return {
            "event": "choice",
            "num_candidates": num_candidates,
            "draw": best.position[1],
            **{kind: list(cells[kind]) for kind in CELL_KINDS},
            "z": best.z,
        }

    def abandon(self) -> dict[str, Any]:
        """On every edge the operation that is evaluated lowest goes."""
        num_candidates = self.candidates.num_candidates
        evaluations: dict[str, CellEvaluation] = {
            kind: tuple(evaluate_operations(edge) for edge in edges)
            for kind, edges in CREDITS[self.credit](self.validated, self.candidates).items()
        }
        if self.feasibility is None:
            decisions = {kind: abandon(evaluations[kind]) for kind in CELL_KINDS}
        else:
            decisions = self._abandon_within(self.feasibility, evaluations)
        self.candidates = Candidates(normal=decisions["normal"][0], reduce=decisions["reduce"][0])
        self.pass_index = 0
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
        """`abandon` of both cells within the budgets; of equal operations, one of which was not trained in the round,
        the costliest goes.
        """
        drawn = self._drawn_in_round()
        costs = {
            kind: [
                feasibility.costliness(kind, edge) if set(alive) - drawn[kind][edge] else {}
                for edge, alive in enumerate(cell)
            ]
            for kind, cell in self.candidates.cells().items()
        }
        return abandon_within(feasibility, evaluations, costs)

    def _drawn_in_round(self) -> dict[str, list[set[str]]]:
        """The operations of each edge that a draw of the current round held: with budgets, draws are repaired."""
        held = {kind: [set[str]() for _ in EDGES] for kind in CELL_KINDS}
        for draw in self.validated:
            if draw.position[0] == self._turn:
                for kind, cell in draw.genotype.cells().items():
                    for edge, op in enumerate(cell):
                        held[kind][edge].add(op)
        return held

    @staticmethod
    def of(settings: "SearchConfig", feasibility: Feasibility | None) -> "SearchState":
        """The state before the first record."""
        return SearchState(
            settings.num_passes,
            settings.credit,
            feasibility,
            scored_passes=settings.scored_passes,
            num_left=settings.num_left,
            final_passes=settings.final_passes,
        )

    @staticmethod
    def replay(history: Sequence[Mapping[str, Any]], settings: "SearchConfig") -> "SearchState":
        """The state after these records."""
        state = SearchState.of(settings, recorded_feasibility(history))
        for record in history:
            if record["event"] in DECISIONS:
                state.decide()
            elif record["event"] != BEGINNING:
                state.follow(record, z_of(record))
        return state

    def follow(self, record: Mapping[str, Any], z: Sequence[float]) -> None:
        """Go on as a record of the warm-up, of a draw or of a pass says, with these z for what it validates."""
        if record["event"] == WARMUP:
            self.num_warmed_up += record["network"] == "child"
        if record["event"] == "draw":
            self.train(Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])))
        if z:
            self.give(z)


def z_of(record: Mapping[str, Any]) -> Sequence[float]:
    """What a record of a draw or of a pass gives: one z per draw that it validates."""
    z = record.get("z")
    return z if isinstance(z, list) else [] if z is None else [z]
