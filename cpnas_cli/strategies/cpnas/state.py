"""Where Algorithm 9 stands: candidates, pass, draw, and the indicators given so far. No tensors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cpnas_cli.search_space import ALL_CANDIDATES, CELL_KINDS, EDGES, NUM_OPERATIONS, Candidates, Genotype, draw_pass
from cpnas_cli.strategies.cpnas.credit import CREDITS, ValidatedDraw
from cpnas_cli.strategies.cpnas.indicator import CellEvaluation, abandon, evaluate_operations


def num_draws_of_search(num_passes: int) -> int:
    """T * (8 + 7 + ... + 2) = 35 T draws of a Child and a Parent."""
    return num_passes * sum(range(2, NUM_OPERATIONS + 1))


@dataclass
class SearchState:
    """Where Algorithm 9 stands; a function of the history alone.

    Attributes:
      credit: see `search.credit`.
      trained: draws of the current pass that are not validated yet.
      validated: all others of the search so far, those of earlier rounds too.
    """

    num_passes: int
    credit: str = "draw"
    candidates: Candidates = ALL_CANDIDATES
    pass_index: int = 0
    draw_index: int = 0
    trained: list[Genotype] = field(default_factory=list)
    validated: list[ValidatedDraw] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.candidates.num_candidates == 1

    def draw(self, *, seed: int) -> Genotype:
        """The architecture that is to be trained next."""
        return draw_pass(self.candidates, seed=seed, pass_index=self.pass_index)[self.draw_index]

    def train(self, genotype: Genotype) -> None:
        """The draw is trained: step on to the next one of the pass."""
        self.trained.append(genotype)
        self.draw_index += 1

    def give(self, z: Sequence[float]) -> None:
        """Give the draws that are trained and not validated their z, in their order; the last one ends its pass."""
        turn, size = NUM_OPERATIONS - self.candidates.num_candidates, self.candidates.num_candidates
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
    def round_complete(self) -> bool:
        return self.pass_index == self.num_passes

    def abandon(self) -> dict[str, Any]:
        """End the round; returns its history record."""
        num_candidates = self.candidates.num_candidates
        evaluations: dict[str, CellEvaluation] = {
            kind: tuple(evaluate_operations(edge) for edge in edges)
            for kind, edges in CREDITS[self.credit](self.validated, self.candidates).items()
        }
        decisions = {kind: abandon(evaluations[kind]) for kind in CELL_KINDS}
        self.candidates = Candidates(normal=decisions["normal"][0], reduce=decisions["reduce"][0])
        self.pass_index = 0
        record: dict[str, Any] = {"event": "abandon", "num_candidates": num_candidates}
        for kind in CELL_KINDS:
            record[kind] = [
                {"from": source, "to": node, "evaluation": evaluation, "abandoned": gone}
                for (source, node), evaluation, gone in zip(EDGES, evaluations[kind], decisions[kind][1], strict=True)
            ]
        return record

    @staticmethod
    def replay(history: Iterable[Mapping[str, Any]], *, num_passes: int, credit: str) -> "SearchState":
        """The state after these records."""
        state = SearchState(num_passes, credit)
        for record in history:
            if record["event"] == "abandon":
                state.abandon()
            else:
                state.follow(record, z_of(record))
        return state

    def follow(self, record: Mapping[str, Any], z: Sequence[float]) -> None:
        """Go on as a record of a draw or of a pass says, with these z for what it validates."""
        if record["event"] == "draw":
            self.train(Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])))
        if z:
            self.give(z)


def z_of(record: Mapping[str, Any]) -> Sequence[float]:
    """What a record of a draw or of a pass gives: one z per draw that it validates."""
    z = record["z"]
    return z if isinstance(z, list) else [] if z is None else [z]
