"""Where a search with strict fairness stands. No tensors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpnas_cli.search_space import ALL_CANDIDATES, CELL_KINDS, NUM_OPERATIONS, Candidates
from cpnas_cli.settings import FairConfig
from cpnas_cli.strategies.fair.candidates import numbers_of_candidates
from cpnas_cli.strategies.one_shot.state import OneShotState


def num_epochs_of_search(settings: FairConfig) -> int:
    """Epochs of the shared Child over all rounds."""
    return settings.num_epochs + (len(numbers_of_candidates()) - 1) * settings.num_retraining_epochs


def num_scored_in_round(settings: FairConfig, num_candidates: int) -> int:
    """In the first round as many as the settings say; later in proportion to the candidates, so to the effects."""
    return math.ceil(settings.num_scored * num_candidates / NUM_OPERATIONS)


@dataclass
class FairState(OneShotState[FairConfig]):
    """Which round it is, and what was trained and scored in it.

    Attributes:
      epoch: epochs done, over all rounds. epoch_of_round: those of this round.
      genotypes, scores: what was scored in this round, and its z.
    """

    candidates: Candidates = ALL_CANDIDATES
    epoch_of_round: int = 0

    @property
    def finished(self) -> bool:
        return self.candidates.num_candidates == 1

    @property
    def is_first_round(self) -> bool:
        return self.candidates == ALL_CANDIDATES

    @property
    def trains(self) -> bool:
        """Whether an epoch comes next; else something is scored."""
        wanted = self.settings.num_epochs if self.is_first_round else self.settings.num_retraining_epochs
        return self.epoch_of_round < wanted

    @property
    def round_complete(self) -> bool:
        return len(self.genotypes) >= self.num_scored

    @property
    def num_scored(self) -> int:
        """How many are scored in this round."""
        return num_scored_in_round(self.settings, self.candidates.num_candidates)

    def give(self, record: Mapping[str, Any]) -> None:
        super().give(record)
        match record["event"]:
            case "epoch":
                self.epoch_of_round += 1
            case "abandon":
                self.candidates = _without(self.candidates, record)
                self.epoch_of_round, self.genotypes, self.scores = 0, [], []


def _without(candidates: Candidates, record: Mapping[str, Any]) -> Candidates:
    """What an abandon record leaves of the candidates."""
    return Candidates(
        **{
            kind: tuple(
                tuple(op for op in alive if op != edge["abandoned"])
                for alive, edge in zip(candidates.cells()[kind], record[kind], strict=True)
            )
            for kind in CELL_KINDS
        }
    )
