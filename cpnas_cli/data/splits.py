"""Subsets and splits: which of the images are used, and for what."""

import hashlib
import os
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


def share_by_name(names: Sequence[str], fraction: float, *, purpose: str) -> list[bool]:
    """Which images of one class belong to a share of it: the same for every run and every seed.

    Of n images max(1, min(n - 1, floor(n fraction + 1/2))) do: those whose names have the smallest hashes (BLAKE2,
    after the purpose and a zero byte). So an image keeps its part when others come or go, but for a few at the border,
    and neither the run's seed nor the order of the images matters.

    Args:
      names: of the images, different ones, at least two.
    """
    assert len(names) > 1, "one image cannot be split"
    number = max(1, min(len(names) - 1, int(len(names) * fraction + 0.5)))

    def rank(name: str) -> tuple[bytes, str]:
        text = purpose.encode() + b"\0" + os.fsencode(name)
        return hashlib.blake2b(text, digest_size=16).digest(), name

    chosen = set(sorted(names, key=rank)[:number])
    return [name in chosen for name in names]


def validates(labels: Sequence[int], names: Sequence[str], classes: Sequence[str], fraction: float) -> list[bool]:
    """Which of the training images validate: of every class its share, see `share_by_name`.

    Args:
      names: of the images, different ones. classes: in the order of the labels.

    Raises:
      DataError: a class has a single image.
    """
    by_class: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        by_class.setdefault(label, []).append(index)
    chosen = [False] * len(labels)
    for label, indices in by_class.items():
        if len(indices) == 1:
            raise DataError(
                f"{classes[label]} has a single training image; data.validation_fraction={fraction:g} needs one to "
                "train and one to validate: add images, or --set data.validation_fraction=0"
            )
        own = share_by_name([names[index] for index in indices], fraction, purpose="cpnas validation split")
        for index, is_chosen in zip(indices, own, strict=True):
            chosen[index] = is_chosen
    return chosen


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
