"""The images of a search: the two halves of the training set, and how batches are made of them."""

from dataclasses import dataclass

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.data.splits import split_for_search
from cpnas_cli.strategies.base import Search


@dataclass(frozen=True)
class SearchImages:
    """Training and validation split on the search's device; the test set is not in it."""

    pipeline: Pipeline
    training: ImageSet
    validation: ImageSet

    @staticmethod
    def of(search: Search) -> "SearchImages":
        config, device = search.config, search.fabric.device
        # cutout is for long trainings: DARTS and PC-DARTS search without it
        data = config.data.model_copy(update={"cutout": 0})
        training, validation = split_for_search(
            search.dataset.train, validation_fraction=config.search.validation_fraction, seed=config.seed
        )
        pipeline = Pipeline(data, search.dataset.mean, search.dataset.std)
        return SearchImages(pipeline, training.to(device), validation.to(device))
