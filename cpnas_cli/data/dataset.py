"""A loaded data set: uint8 images and their labels, and what a run records of them.

A data set is decoded once into uint8 tensors, which live on the device; everything after that is
done in batches there (`data.batches`).
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
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
    """Images and their labels: uint8 (N, C, S, S) and int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> "ImageSet":
        return ImageSet(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "ImageSet":
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
        return self.train.images.shape[1]

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
    mean, std = channel_statistics(train.images)
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


def channel_statistics(images_NCHW: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of every channel of uint8 images, in units of the full range (0 to 1); the deviation is a sample's (n - 1).

    From sums of whole numbers over pieces of the images, so without rounding before the last division, and without a
    copy of all images.
    """
    num_channels = images_NCHW.shape[1]
    totals, squares = [0] * num_channels, [0] * num_channels
    for piece_NCHW in _pieces(images_NCHW):
        values = piece_NCHW.int()
        for sums, added in ((totals, values), (squares, values.square())):
            for channel, value in enumerate(added.sum(dim=(0, 2, 3), dtype=torch.int64).tolist()):
                sums[channel] += value
    count = images_NCHW.numel() // num_channels
    mean = tuple(total / (255 * count) for total in totals)
    variance = (
        (count * square - total**2) / (count * (count - 1)) for total, square in zip(totals, squares, strict=True)
    )
    return mean, tuple(math.sqrt(value) / 255 for value in variance)


def _pieces(images_NCHW: Tensor) -> Iterator[Tensor]:
    """The images, some at a time; of very large ones some rows at a time."""
    _, channels, height, width = images_NCHW.shape
    num_rows = max(_PIECE // (channels * width), 1)
    num_images = max(num_rows // height, 1)
    for start in range(0, len(images_NCHW), num_images):
        yield from images_NCHW[start : start + num_images].split(num_rows, dim=2)


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """`cpnas.dataset/1`: classes, counts, statistics, a hash over images and labels, and the source's own record.

    Validation images have a count and a hash of their own, so that all else is as it is without them.
    """
    parts = (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)
    return {
        "schema": DATASET_SCHEMA,
        "classes": list(dataset.classes),
        "num_train_images": len(dataset.train),
        "num_test_images": len(dataset.test),
        "image_shape": list(dataset.train.images.shape[1:]),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "hash": _hash_of_parts(*parts),
        **dataset.record,
        **_describe_validation(dataset.validation),
    }


def _describe_validation(images: ImageSet | None) -> dict[str, Any]:
    if images is None:
        return {}
    return dict(zip(VALIDATION_KEYS, (len(images), _hash_of_parts(images.images, images.labels)), strict=True))


def _hash_of_parts(*parts: Tensor) -> str:
    return hashlib.blake2b("".join(map(_hash_of_values, parts)).encode(), digest_size=16).hexdigest()


def _hash_of_values(tensor: Tensor) -> str:
    values: Any = np.ascontiguousarray(tensor.numpy())  # no copy of images: they may be more than memory has room for
    return hashlib.blake2b(values, digest_size=16).hexdigest()
