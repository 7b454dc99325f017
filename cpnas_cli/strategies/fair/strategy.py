"""Strict fairness as a strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpnas_cli.strategies.base import Cost, History, Search
from cpnas_cli.strategies.one_shot.strategy import OneShot

if TYPE_CHECKING:
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Fair(OneShot):
    """A shared Child that is trained fairly and then scored; where it is run: `search`."""

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.strategies.fair.search import search_fair

        return search_fair(search)

    def num_units(self, config: "Config") -> int:
        from cpnas_cli.strategies.fair.state import num_epochs_of_search

        return num_epochs_of_search(config.fair)

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
