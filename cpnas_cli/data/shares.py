"""A share of every class, chosen by the names of its images: the same for every seed, and nearly so as images come."""

import hashlib
import os
from collections.abc import Sequence

from cpnas_cli.errors import DataError


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
