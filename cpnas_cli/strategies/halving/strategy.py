"""Successive halving as a strategy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.strategies.base import Cost, History, Search, Strategy

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.search_space import Genotype
    from cpnas_cli.settings import Config


@dataclass(frozen=True)
class Halving(Strategy):
    """Genotypes that are each trained on their own, the better half for twice as long; where it is run: `search`."""

    def search(self, search: Search) -> "Genotype":
        from cpnas_cli.strategies.halving.search import search_halving

        return search_halving(search)

    def num_units(self, config: "Config") -> int:
        from cpnas_cli.strategies.halving.search import numbers_of_trainings

        return sum(numbers_of_trainings(config.halving))

    def work_of_units(self, config: "Config") -> list[float]:
        """Its epochs."""
        from cpnas_cli.strategies.halving.search import num_epochs_of, numbers_of_trainings

        numbers = enumerate(numbers_of_trainings(config.halving))
        return [float(num_epochs_of(config.halving, index)) for index, number in numbers for _ in range(number)]

    def cost(self, history: History, *, num_inherited: int = 0) -> Cost:
        """The epochs of its trainings, of a Parent that teaches too."""
        from cpnas_cli.strategies.halving.search import num_epochs_trained

        del num_inherited  # nothing is
        total = num_epochs_trained(history)
        return Cost(asked=total, trained=total)

    def provenance(self, config: "Config") -> dict[str, Any]:
        """The cells and channels are those of the final network, in which it searches."""
        return {
            "num_cells": config.network.num_cells,
            "num_channels": config.network.num_channels,
            "num_genotypes": config.halving.num_genotypes,
            "num_rounds": config.halving.num_rounds,
            "first_epochs": config.halving.first_epochs,
        }

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        from dataclasses import replace

        from cpnas_cli.data.splits import check_split
        from cpnas_cli.training.checks import check_training

        train = dataset.train
        num_training = len(train) - check_split(len(train), config.search.validation_fraction)
        check_training(config, replace(dataset, train=train.part(0, num_training)), fabric)


HALVING = Halving(
    name="halving",
    summary="random genotypes trained on their own, the better half for twice as long",
    unit="draw",
    view="trainings",
    keeps_budgets=True,
)
