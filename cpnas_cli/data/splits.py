"""Subsets and splits: which of the images are used, and for what."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cpnas_cli.errors import DataError
from cpnas_cli.randomness import python_generator, shuffled, torch_generator

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import ImageSet


def balanced_subset(labels: Sequence[int], size: int | None) -> list[int]:
    """Indices, in order, of a fixed subset in which each class keeps its share; all for None.

    The choice depends on the labels and the size only, so that every run and every seed has the same.
    """
    if size is None or size >= len(labels):
        return list(range(len(labels)))
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    ranked = []
    for label, indices in sorted(by_class.items()):
        order = shuffled(indices, python_generator(0, "subset", label))
        ranked += [((rank + 0.5) / len(order), label, index) for rank, index in enumerate(order)]
    return sorted(index for _, _, index in sorted(ranked)[:size])


def check_split(num_images: int, validation_fraction: float) -> int:
    """How many of the images validate in a search.

    Raises:
      DataError: fewer than 2 images would train or validate.
    """
    num_validation = round(num_images * validation_fraction)
    if min(num_validation, num_images - num_validation) < 2:
        raise DataError(f"{num_images} training images are too few to split into training and validation")
    return num_validation


def split_for_search(train: "ImageSet", *, validation_fraction: float, seed: int) -> tuple["ImageSet", "ImageSet"]:
    """The training set cut into a training and a validation part at random; the test set is not touched.

    Raises:
      DataError: a part would have fewer than 2 images.
    """
    import torch

    num_validation = check_split(len(train), validation_fraction)
    order = torch.randperm(len(train), generator=torch_generator(seed, "search split"))
    order = order.to(train.labels.device)
    return train.subset(order[num_validation:]), train.subset(order[:num_validation])
