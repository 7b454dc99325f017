"""How long what is left of a search will take, by the records of its history."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cpnas_cli.runs.time_left import TimeLeft
from cpnas_cli.strategies import strategy_named

if TYPE_CHECKING:
    from cpnas_cli.settings import Config

UNITS = ("epoch", "draw", "pass")
"""Events whose records say the seconds of a unit."""


class SearchTimeLeft(TimeLeft):
    """Of a search of these settings; its strategy says what there is to do.

    Args:
      num_images: training images of the data set.
    """

    def __init__(self, config: "Config", *, num_images: int) -> None:
        self.config, self.strategy = config, strategy_named(config.search.strategy)
        super().__init__(self.strategy.work_of_records(config, num_images=num_images))

    def notify(self, record: Mapping[str, Any]) -> None:
        """One record, saved or new; what is no unit is passed over."""
        if record["event"] in UNITS:
            self.unit_done(record["seconds"], heaviness=self.strategy.heaviness_of(record, self.config))
