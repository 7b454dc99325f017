"""Data sets by name, subsets and splits.

A data set is decoded once into uint8 tensors, which live on the device; everything after that is
done in batches there (`batches`).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from cpnas_cli.data.cache import cache_folder, checksum, common_num_channels, decode_cached
from cpnas_cli.data.decoding import is_image_name
from cpnas_cli.errors import DataError
from cpnas_cli.randomness import python_generator, shuffled, torch_generator
from cpnas_cli.settings import DataConfig
from cpnas_cli.storage.documents import DATASET_SCHEMA

_TORCHVISION_HINTS = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte and the three other files of MNIST",
    "fashion-mnist": "FashionMNIST/raw/train-images-idx3-ubyte and the three other files of Fashion-MNIST",
    "cifar10": "cifar-10-batches-py/ (unpacked cifar-10-python.tar.gz)",
    "cifar100": "cifar-100-python/ (unpacked cifar-100-python.tar.gz)",
}


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

    `mean` and `std` are in units of the full range (0 to 1).
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_image_channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to(self, device: torch.device) -> "Dataset":
        return Dataset(self.train.to(device), self.test.to(device), self.classes, self.mean, self.std)


def load_dataset(config: DataConfig) -> Dataset:
    """The data set that the settings name, on the CPU.

    Raises:
      DataError: missing, empty, inconsistent or unreadable; the message names the folder or the file.
    """
    train, test, classes = _LOADERS[config.name](config)
    absent = sorted(set(range(len(classes))) - set(train.labels.tolist()))
    if absent and config.num_train is not None:
        names = ", ".join(str(classes[label]) for label in absent[:5])
        raise DataError(f"data.num_train={config.num_train} leaves no training image of {names}; use a larger one")
    if len(classes) < 2:
        raise DataError(f"a classifier needs at least two classes; {config.name} has {len(classes)}: {classes}")
    pixels = train.images.transpose(0, 1).flatten(1).float() / 255
    std, mean = torch.std_mean(pixels, dim=1)
    return Dataset(
        train,
        test,
        tuple(classes),
        mean=tuple(round(value, 6) for value in mean.tolist()),
        std=tuple(round(max(value, 1e-3), 6) for value in std.tolist()),
    )


def describe_dataset(dataset: Dataset) -> dict[str, Any]:
    """`cpnas.dataset/1`: classes, counts, statistics and a hash over all images and labels."""
    parts = (dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels)
    return {
        "schema": DATASET_SCHEMA,
        "classes": list(dataset.classes),
        "num_train_images": len(dataset.train),
        "num_test_images": len(dataset.test),
        "image_shape": list(dataset.train.images.shape[1:]),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "hash": hashlib.blake2b("".join(map(checksum, parts)).encode(), digest_size=16).hexdigest(),
    }


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


def split_for_search(train: ImageSet, *, validation_fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """The training set cut into a training and a validation part at random; the test set is not touched.

    Raises:
      DataError: a part would have fewer than 2 images.
    """
    num_validation = check_split(len(train), validation_fraction)
    order = torch.randperm(len(train), generator=torch_generator(seed, "search split"))
    order = order.to(train.labels.device)
    return train.subset(order[num_validation:]), train.subset(order[:num_validation])


# ---------------------------------------------------------------- data sets by name


_Loaded = tuple[ImageSet, ImageSet, Sequence[str]]


def _load_digits(config: DataConfig) -> _Loaded:
    """scikit-learn's 1,797 digits; of each class every fifth image is a test image (ours: it has no split)."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(10):
        is_test[(labels == label).nonzero()[::5, 0]] = True
    classes = [str(label) for label in range(10)]
    return (*_from_arrays(config, (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])), classes)


def _load_torchvision(config: DataConfig) -> _Loaded:
    from torchvision import datasets

    kinds = {
        "mnist": datasets.MNIST,
        "fashion-mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
    }
    folder = Path(config.dir) if config.dir else cache_folder() / "datasets"
    parts, classes = [], []
    for train in (True, False):
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            with FileLock(cache_folder() / f"{config.name}.lock"):  # another process may be downloading the same
                part: Any = kinds[config.name](str(folder), train=train, download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise DataError(
                f"{config.name} is not in {folder} and could not be downloaded ({reason}); put "
                f"{_TORCHVISION_HINTS[config.name]} there and name the folder with --data-dir"
            ) from None
        images = torch.as_tensor(part.data)
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
        parts.append((images, torch.as_tensor(part.targets, dtype=torch.int64)))
        classes = part.classes
    return (*_from_arrays(config, parts[0], parts[1]), classes)


def _from_arrays(
    config: DataConfig, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> tuple[ImageSet, ImageSet]:
    """Subset, channels and size as the settings ask."""

    def prepare(part: tuple[Tensor, Tensor], size: int | None) -> ImageSet:
        indices = torch.tensor(balanced_subset(part[1].tolist(), size))
        images, labels = part[0][indices], part[1][indices]
        if images.shape[-1] != config.image_size:
            images = resize(images, [config.image_size, config.image_size], antialias=True)
        if config.num_channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1).contiguous()
        elif config.num_channels == 1 and images.shape[1] == 3:
            luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
            images = (images * luma).sum(dim=1, keepdim=True).round().to(torch.uint8)
        return ImageSet(images, labels)

    return prepare(train, config.num_train), prepare(test, config.num_test)


def _load_folder(config: DataConfig) -> _Loaded:
    """`train/CLASS/*` and `test/CLASS/*` (or `val/`), any image that Pillow reads."""
    if config.dir is None:
        raise DataError("data.name=folder needs --data-dir FOLDER, with train/CLASS/* and test/CLASS/* in it")
    root = Path(config.dir)
    if not root.is_dir():
        raise DataError(f"no data folder at {root}; expected train/CLASS/* and test/CLASS/* in it")
    test_folder = root / "test" if (root / "test").is_dir() else root / "val"
    for folder in (root / "train", test_folder):
        if not folder.is_dir():
            raise DataError(f"{root} has no {folder.name}/ folder; expected train/CLASS/* and test/CLASS/* (or val/)")
    classes = _class_names(root / "train")
    unknown = sorted(set(_class_names(test_folder)) - set(classes))
    if unknown:
        raise DataError(f"{test_folder} has classes that {root / 'train'} lacks: {', '.join(unknown)}")
    parts = [
        _list_images(folder, classes, size)
        for folder, size in ((root / "train", config.num_train), (test_folder, config.num_test))
    ]
    num_channels = config.num_channels or common_num_channels([path for part in parts for path, _ in part])

    def decode(part: list[tuple[Path, int]]) -> ImageSet:
        paths = [path for path, _ in part]
        images = decode_cached(paths, root=root, image_size=config.image_size, num_channels=num_channels)
        return ImageSet(images, torch.tensor([label for _, label in part]))

    train, test = map(decode, parts)
    return train, test, classes


_LOADERS: dict[str, Callable[[DataConfig], _Loaded]] = {
    "digits": _load_digits,
    "mnist": _load_torchvision,
    "fashion-mnist": _load_torchvision,
    "cifar10": _load_torchvision,
    "cifar100": _load_torchvision,
    "folder": _load_folder,
}


# ---------------------------------------------------------------- folders of images


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders; expected {folder}/CLASS/*")
    return names


def _list_images(folder: Path, classes: Sequence[str], size: int | None) -> list[tuple[Path, int]]:
    found = [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if path.is_file() and is_image_name(path.name)
    ]
    present = {label for _, label in found}
    if folder.name == "train":
        empty = [name for label, name in enumerate(classes) if label not in present]
        if empty:
            raise DataError(f"{folder / empty[0]} holds no images")
        if len(classes) < 2:
            raise DataError(f"{folder} has one class ({classes[0]}); a classifier needs at least two")
    if not found:
        raise DataError(f"{folder} holds no images; expected {folder}/CLASS/*")
    return [found[index] for index in balanced_subset([label for _, label in found], size)]
