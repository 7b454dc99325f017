"""PC-DARTS as a strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.strategies.base import Cost, History, Search, Strategy
from cpnas_cli.strategies.pcdarts import NUM_INCOMING_EDGES

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class PcDarts(Strategy):
    """First-order bilevel optimization of a mixed 1-bit network; where it is run: `search`."""

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.strategies.pcdarts.search import search_pcdarts

        return search_pcdarts(search)

    def num_units(self, config: "Config") -> int:
        return config.pcdarts.num_epochs

    def work_of_units(self, config: "Config") -> list[float]:
        """Architecture parameters that learn take some half of an epoch more (measured, 1.4 to 1.7 in all)."""
        settings = config.pcdarts
        return [1.0 if epoch < settings.frozen_epochs else 1.5 for epoch in range(settings.num_epochs)]

    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """An epoch is one, and one more for the architecture parameters unless they are frozen."""
        del num_inherited  # nothing is
        epochs = [record for record in history if record["event"] == "epoch"]
        total = len(epochs) + sum(record["loss_architecture"] is not None for record in epochs)
        return Cost(asked=total, trained=total)

    def provenance(self, config: "Config") -> dict[str, Any]:
        return {"num_epochs": config.pcdarts.num_epochs}

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        from cpnas_cli.data.splits import check_split
        from cpnas_cli.strategies.pcdarts.mixed_network import check_partial_channels

        del fabric
        check_split(len(dataset.train), config.search.validation_fraction)
        config.check_search_network()
        check_partial_channels(config.search_network(), config.pcdarts.partial_channels)


PCDARTS = PcDarts(
    name="pcdarts",
    summary="gradient descent on a mixture of all operations, as in PC-DARTS",
    unit="epoch",
    view="epochs",
    keeps_budgets=True,
    num_incoming=NUM_INCOMING_EDGES,
)
