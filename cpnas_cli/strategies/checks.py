"""What the strategy of the settings could not search, refused before anything is written."""

from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.settings import Config
from cpnas_cli.strategies import strategy_named


def check_search(config: Config, dataset: Dataset, fabric: Fabric | None) -> None:
    """Refuse a search that these images or this device do not allow; see `Strategy.check`.

    Raises:
      DataError, UsageError: what is too few or does not fit.
    """
    strategy_named(config.search.strategy).check(config, dataset, fabric)
