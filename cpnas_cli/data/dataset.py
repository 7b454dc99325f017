"""A loaded data set: uint8 images and their labels, and what a run records of them.

A data set is decoded once into uint8 tensors, which live on the device; everything after that is
done in batches there (`data.batches`).
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpnas_cli import registry
from cpnas_cli.data.mirroring import mirror_hint
from cpnas_cli.data.shares import validates
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig
from cpnas_cli.storage.documents import DATASET_SCHEMA, VALIDATION_KEYS

_PIECE = 2**22  # pixel values at a time, of which the squares take 4 bytes each


@dataclass(frozen=True)
class ImageSet:
    """Images and their labels, or a choice of the images of a larger set, of which nothing is copied.

    Attributes:
      stored: uint8 (M, C, S, S); on the CPU perhaps mapped from a file that is larger than memory.
      labels: int64 (N,). indices: int64 (N,), of the stored images; None: all, in their order.
    """

    stored: Tensor
    labels: Tensor
    indices: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> Tensor:
        """uint8 (N, C, S, S); of a choice a copy."""
        return self.stored if self.indices is None else self.stored[self.indices]

    @property
    def shape(self) -> torch.Size:
        """(N, C, S, S)."""
        return torch.Size((len(self), *self.stored.shape[1:]))

    def at(self, indices_B: Tensor) -> Tensor:
        """The images of these places, uint8 (B, C, S, S), a copy."""
        return self.stored[indices_B if self.indices is None else self.indices[indices_B]]

    def part(self, start: int, end: int) -> "ImageSet":
        """Those from `start` to before `end`; nothing is copied."""
        if self.indices is None:
            return ImageSet(self.stored[start:end], self.labels[start:end])
        return ImageSet(self.stored, self.labels[start:end], self.indices[start:end])

    def subset(self, indices: Tensor) -> "ImageSet":
        """Those of these places, in this order.

        Args:
          indices: whole numbers, or True for each image that is chosen.
        """
        if indices.dtype == torch.bool:
            indices = indices.nonzero().squeeze(1)
        within = indices if self.indices is None else self.indices[indices]
        return ImageSet(self.stored, self.labels[indices], within)

    def to(self, device: torch.device) -> "ImageSet":
        """On another device there are those that are chosen, and no others."""
        if device == self.stored.device:
            return self
        return ImageSet(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Training and test images, the classes' names, and the training set's mean and deviation per channel.

    `mean` and `std` are in units of the full range (0 to 1); for `record` and `notes` see `data.source`.
    `test_files`: of every test image its file, where each has one. `validation`: images that are not trained on, by
    which a training is watched; None without any.
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    test_files: tuple[Path, ...] | None = None
    validation: ImageSet | None = None

    @property
    def num_image_channels(self) -> int:
        return self.train.shape[1]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device) -> "Dataset":
        validation = None if self.validation is None else self.validation.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), validation=validation)


def load_dataset(config: DataConfig) -> Dataset:
    """The data set that the settings name, on the CPU.

    Raises:
      DataError: missing, empty, inconsistent or unreadable; the message names the folder or the file.
    """
    loaded = registry.registered(registry.DATASETS, config.name).load(config)
    train, classes = loaded.train, loaded.classes
    absent = sorted(set(range(len(classes))) - set(train.labels.tolist()))
    if absent and config.num_train is not None:
        names = ", ".join(str(classes[label]) for label in absent[:5])
        raise DataError(f"data.num_train={config.num_train} leaves no training image of {names}; use a larger one")
    if len(classes) < 2:
        raise DataError(f"a classifier needs at least two classes; {config.name} has {len(classes)}: {classes}")
    names = loaded.train_names or [str(index) for index in range(len(train))]
    train, validation, notes = _with_validation(config, train, loaded.validation, names=names, classes=classes)
    hint = mirror_hint(classes) if config.flip else None
    mean, std = channel_statistics(train)
    return Dataset(
        train,
        loaded.test,
        tuple(classes),
        # by way of float32, in which batches are normalized, and in which earlier versions computed these
        mean=tuple(round(value, 6) for value in torch.tensor(mean).tolist()),
        std=tuple(round(max(value, 1e-3), 6) for value in torch.tensor(std).tolist()),
        record=loaded.record,
        notes=(*loaded.notes, *notes, *([] if hint is None else [hint])),
        test_files=None if loaded.test_files is None else tuple(loaded.test_files),
        validation=validation,
    )


def _with_validation(
    config: DataConfig, train: ImageSet, own: ImageSet | None, *, names: Sequence[str], classes: Sequence[str]
) -> tuple[ImageSet, ImageSet | None, tuple[str, ...]]:
    """The images that train, those that validate, and what a user should know of these.

    Args:
      own: those that the data set comes with. names: of the training images.

    Raises:
      DataError: a class has too few images, or there are validation images and a share of the training images too.
    """
    fraction = config.validation_fraction
    if fraction == 0:
        return train, own, ()
    if own is not None:
        raise DataError(
            f"{config.dir} has a val/ beside test/, which validates, and data.validation_fraction={fraction:g} asks "
            "for training images too; add --set data.validation_fraction=0"
        )
    chosen = torch.tensor(validates(train.labels.tolist(), names, classes, fraction))
    note = (
        f"{int(chosen.sum()):,} of {len(train):,} training images validate in trainings and no search looks at them, "
        f"the same ones every time (data.validation_fraction={fraction:g})"
    )
    return train.subset(~chosen), train.subset(chosen), (note,)


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of every channel of uint8 images, in units of the full range (0 to 1); the deviation is a sample's (n - 1).

    From sums of whole numbers over pieces of the images, so without rounding before the last division, and without a
    copy of all images.
    """
    num_images, num_channels, height, width = images.shape
    totals, squares = [0] * num_channels, [0] * num_channels
    for piece_NCHW in _pieces(images):
        values = piece_NCHW.int()
        for sums, added in ((totals, values), (squares, values.square())):
            for channel, value in enumerate(added.sum(dim=(0, 2, 3), dtype=torch.int64).tolist()):
                sums[channel] += value
    count = num_images * height * width
    mean = tuple(total / (255 * count) for total in totals)
    variance = (
        (count * square - total**2) / (count * (count - 1)) for total, square in zip(totals, squares, strict=True)
    )
    return mean, tuple(math.sqrt(value) / 255 for value in variance)


def _pieces(images: ImageSet) -> Iterator[Tensor]:
    """The images, some at a time; of very large ones some rows at a time."""
    _, channels, height, width = images.shape
    num_rows = max(_PIECE // (channels * width), 1)
    num_images = max(num_rows // height, 1)
    for start in range(0, len(images), num_images):
        yield from images.part(start, start + num_images).images.split(num_rows, dim=2)


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """`cpnas.dataset/1`: classes, counts, statistics, a hash over images and labels, and the source's own record.

    Validation images have a count and a hash of their own, so that all else is as it is without them.
    """
    return {
        "schema": DATASET_SCHEMA,
        "classes": list(dataset.classes),
        "num_train_images": len(dataset.train),
        "num_test_images": len(dataset.test),
        "image_shape": list(dataset.train.shape[1:]),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "hash": _hash_of(dataset.train, dataset.test),
        **dataset.record,
        **_describe_validation(dataset.validation),
    }


def _describe_validation(images: ImageSet | None) -> dict[str, Any]:
    if images is None:
        return {}
    return dict(zip(VALIDATION_KEYS, (len(images), _hash_of(images)), strict=True))


def _hash_of(*sets: ImageSet) -> str:
    hashes = (each for images in sets for each in (_hash_of_images(images), _hash_of_values([images.labels])))
    return hashlib.blake2b("".join(hashes).encode(), digest_size=16).hexdigest()


def _hash_of_images(images: ImageSet) -> str:
    num_images = max(_PIECE // max(images.shape[1:].numel(), 1), 1)
    starts = range(0, len(images), num_images)
    return _hash_of_values(images.part(start, start + num_images).images for start in starts)


def _hash_of_values(tensors: Iterable[Tensor]) -> str:
    """Of their values one after the other; no copy of all of them: images may be more than memory has room for."""
    total = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        values: Any = np.ascontiguousarray(tensor.numpy())
        total.update(values)
    return total.hexdigest()
