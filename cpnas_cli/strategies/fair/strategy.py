"""Strict fairness as a strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.runs.time_left import Unit
from cpnas_cli.strategies.base import Cost, History, Search
from cpnas_cli.strategies.one_shot.strategy import OneShot

if TYPE_CHECKING:
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


HEAVIER_LATER = 1.5
"""Of an architecture in a later round: the candidates that are left are convolutions more often; measured."""


@dataclass(frozen=True)
class Fair(OneShot):
    """A shared Child that is trained fairly and then scored; where it is run: `search`."""

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.strategies.fair.search import search_fair

        return search_fair(search)

    def num_units(self, config: "Config") -> int:
        from cpnas_cli.strategies.fair.state import num_epochs_of_search

        return num_epochs_of_search(config.fair)

    def work_of_records(self, config: "Config", *, num_images: int) -> list[Unit]:
        """Those of each round: its epochs, and what is scored then."""
        from cpnas_cli.strategies.fair.candidates import numbers_of_candidates

        settings = config.fair
        score = self.work_of_a_score(config, num_images=num_images, num_scored_images=settings.num_scored_images)
        first, *later = numbers_of_candidates()
        epochs = {first: [Unit("epoch", first)] * settings.num_epochs}
        epochs |= {each: [Unit("epoch", HEAVIER_LATER * each)] * settings.num_retraining_epochs for each in later}
        scores = {each: [Unit("score", score)] * self.num_scored(config, each) for each in epochs}
        return [unit for each in epochs for unit in (*epochs[each], *scores[each])]

    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """An epoch trains as many architectures as an edge has candidates; a score trains nothing."""
        del num_inherited  # nothing is
        total = sum(record["num_candidates"] for record in history if record["event"] == "epoch")
        return Cost(asked=total, trained=total)

    def num_scored(self, config: "Config", num_candidates: int) -> int:
        from cpnas_cli.strategies.fair.state import num_scored_in_round

        return num_scored_in_round(config.fair, num_candidates)


FAIR = Fair(
    name="fair",
    summary="a shared Child, trained fairly, in which many architectures are scored",
)
