"""What the strategy of the settings could not search, refused before anything is written."""

from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.errors import UsageError
from cpnas_cli.settings import Config
from cpnas_cli.strategies import strategies, strategy_named
from cpnas_cli.strategies.budgets.feasibility import Feasibility
from cpnas_cli.strategies.budgets.resource import budgets_of, resource_of


def check_search(config: Config, dataset: Dataset, fabric: Fabric | None) -> None:
    """Refuse a search that these images or this device do not allow; see `Strategy.check`.

    Raises:
      DataError, UsageError: what is too few or does not fit, or a budget that cannot be met.
    """
    strategy_named(config.search.strategy).check(config, dataset, fabric)
    check_budgets(config, dataset)


def check_budgets(config: Config, dataset: Dataset) -> None:
    """Refuse budgets that nothing this strategy finds can keep.

    Raises:
      UsageError: the strategy keeps none, a resource cannot be told, or the smallest network takes more.
    """
    strategy, asked = strategy_named(config.search.strategy), config.search.budgets()
    if asked and not strategy.keeps_budgets:
        options = ", ".join(resource_of(setting).option for setting in asked)
        keep = ", ".join(other.name for other in strategies() if other.keeps_budgets)
        raise UsageError(f"{strategy.name} keeps no budget, got {options}; use --strategy with one of {keep}")
    if asked:
        Feasibility(budgets_of(config, dataset), strategy.num_incoming).check()
