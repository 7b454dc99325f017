"""What the strategy of the settings could not search, refused before anything is written."""

from lightning_fabric import Fabric

from cpnas_cli.data.datasets import Dataset, check_split
from cpnas_cli.errors import UsageError
from cpnas_cli.settings import Config
from cpnas_cli.strategies.pcdarts.mixed_network import check_partial_channels


def check_search(config: Config, dataset: Dataset, fabric: Fabric) -> None:
    """Refuse a search that these images or this device do not allow.

    Raises:
      DataError, UsageError: see `check_searchable` and `check_engine`.
    """
    check_engine(config, fabric)
    check_searchable(config, dataset)


def check_searchable(config: Config, dataset: Dataset) -> None:
    """Refuse what the strategy of the settings could not search.

    Raises:
      DataError: too few images to split. UsageError: channels that do not divide.
    """
    if config.search.strategy != "random":
        check_split(len(dataset.train), config.search.validation_fraction)
    if config.search.strategy == "pcdarts":
        check_partial_channels(config.search_network(), config.pcdarts.partial_channels)


def check_engine(config: Config, fabric: Fabric) -> None:
    """Refuse an engine that the device does not have.

    Raises:
      UsageError: CUDA graphs without CUDA, for a strategy that would use them.
    """
    search = config.search
    if search.engine == "graphs" and search.strategy in ("cpnas", "bnas") and fabric.device.type != "cuda":
        raise UsageError(
            f"search.engine=graphs needs an NVIDIA GPU, and this run is on {fabric.device.type}; "
            "go on with it on a GPU, or start a run with --set search.engine=eager"
        )
