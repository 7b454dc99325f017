"""Strict fairness as a strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.strategies.base import Cost, History, Search, Strategy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Fair(Strategy):
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

    def provenance(self, config: "Config") -> dict[str, Any]:
        return {"num_epochs": self.num_units(config), "num_scored": config.fair.num_scored}

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        from cpnas_cli.data.splits import check_split

        del fabric
        check_split(len(dataset.train), config.search.validation_fraction)
        config.check_search_network()


FAIR = Fair(
    name="fair",
    summary="a shared Child, trained fairly, in which many architectures are scored",
    unit="epoch",
    view="scores",
    keeps_budgets=True,
)
