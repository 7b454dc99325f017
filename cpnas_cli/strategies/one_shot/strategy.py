"""What strategies with one shared Child have in common, as objects."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpnas_cli.strategies.base import Strategy, UnitName, View

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.settings import Config


WORK_OF_A_SCORED_IMAGE = 0.25
"""The time that an image takes which an architecture is scored with, beside one that it is trained on; measured."""


@dataclass(frozen=True, kw_only=True)
class OneShot(Strategy):
    """A shared Child that is trained and then scored."""

    unit: UnitName = "epoch"
    view: View | None = "scores"
    keeps_budgets: bool = True

    def check(self, config: "Config", dataset: "Dataset", fabric: "Fabric | None") -> None:
        from cpnas_cli.data.splits import check_split

        del fabric
        check_split(len(dataset.train), config.search.validation_fraction)
        config.check_search_network()

    def work_of_a_score(self, config: "Config", *, num_images: int, num_scored_images: int | None) -> float:
        """Beside an epoch of one architecture a step; the batch norms are calibrated first.

        Args:
          num_images: training images of the data set. num_scored_images: validation images of a score; None: all.
        """
        search = config.search
        num_validated = round(num_images * search.validation_fraction)
        num_trained = max(num_images - num_validated, 1)
        num_scored = min(num_scored_images or num_validated, num_validated)
        num_calibrating = min(search.num_calibration_batches * search.batch_size, num_trained)
        return WORK_OF_A_SCORED_IMAGE * (num_scored + num_calibrating) / num_trained

    def provenance(self, config: "Config") -> dict[str, Any]:
        from cpnas_cli.search_space import NUM_OPERATIONS

        return {"num_epochs": self.num_units(config), "num_scored": self.num_scored(config, NUM_OPERATIONS)}
