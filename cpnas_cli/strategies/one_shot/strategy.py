"""What strategies with one shared Child have in common, as objects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.strategies.base import Strategy, Unit, View

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.settings import Config


@dataclass(frozen=True, kw_only=True)
class OneShot(Strategy):
    """A shared Child that is trained and then scored."""

    unit: Unit = "epoch"
    view: View | None = "scores"
    keeps_budgets: bool = True

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        from cpnas_cli.data.splits import check_split

        del fabric
        check_split(len(dataset.train), config.search.validation_fraction)
        config.check_search_network()

    def provenance(self, config: "Config") -> dict[str, Any]:
        from cpnas_cli.search_space import NUM_OPERATIONS

        return {"num_epochs": self.num_units(config), "num_scored": self.num_scored(config, NUM_OPERATIONS)}
