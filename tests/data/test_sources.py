"""What every data set promises: those without a network as they are, the others from made-up archives."""

import hashlib
import pickle
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from cpnas_cli.data.dataset import Dataset, describe_dataset, load_dataset
from cpnas_cli.data.source import ImageSource
from cpnas_cli.errors import UsageError
from cpnas_cli.registry import DATASETS, registered
from cpnas_cli.settings import DataConfig, load_config

PER_CLASS = 3  # images of each class in a made-up archive, in training and in test


def write_mnist(folder: Path, kind: str, _: pytest.MonkeyPatch) -> None:
    raw = folder / kind / "raw"
    raw.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        labels = np.arange(10 * PER_CLASS, dtype=np.uint8) % 10
        images = np.random.default_rng(seed).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        header = struct.pack(">iiii", 0x803, len(labels), 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, len(labels)) + labels.tobytes())


def write_cifar(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own, key, num_classes = (
        (datasets.CIFAR10, "label_names", 10) if kind == "CIFAR10" else (datasets.CIFAR100, "fine_label_names", 100)
    )
    base = folder / own.base_folder
    base.mkdir(parents=True)

    def write(name: str, content: Any) -> list[str]:
        (base / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base / name).read_bytes()).hexdigest()]

    def part(seed: int) -> dict[str, Any]:
        labels = [label for label in range(num_classes) for _ in range(PER_CLASS)]
        rows = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        return {"data": rows, "labels" if kind == "CIFAR10" else "fine_labels": labels}

    monkeypatch.setattr(own, "train_list", [write("train", part(0))])
    monkeypatch.setattr(own, "test_list", [write("test", part(1))])
    name, md5 = write("meta", {key: [f"class {index}" for index in range(num_classes)]})
    monkeypatch.setattr(own, "meta", {"filename": name, "key": key, "md5": md5})


ARCHIVES: dict[str, Callable[[Path, str, pytest.MonkeyPatch], None]] = {
    "MNIST": write_mnist,
    "FashionMNIST": write_mnist,
    "CIFAR10": write_cifar,
    "CIFAR100": write_cifar,
}


@pytest.fixture(params=DATASETS)
def source(request: pytest.FixtureRequest) -> ImageSource:
    return registered(DATASETS, request.param)


@pytest.fixture
def values(
    source: ImageSource, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Any]:
    """The settings with which the data set can be loaded here."""
    kind = getattr(source, "kind", None)
    if kind is not None:
        ARCHIVES[kind](tmp_path / "archives", kind, monkeypatch)
        return {"name": source.name, "dir": str(tmp_path / "archives"), "image_size": 16}
    return {"name": source.name, "dir": str(image_folder) if source.name == "folder" else None, "image_size": 16}


def load(values: Mapping[str, Any], **more: Any) -> Dataset:
    return load_dataset(DataConfig.model_validate({**values, **more}))


def test_what_is_loaded_is_a_data_set(source: ImageSource, values: Mapping[str, Any]) -> None:
    loaded = load(values)
    assert registered(DATASETS, values["name"]) is source
    assert len(loaded.classes) == len(set(loaded.classes)) >= 2
    assert all(isinstance(name, str) for name in loaded.classes)
    for part in (loaded.train, loaded.test):
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.images.shape == (len(part), loaded.num_image_channels, 16, 16)
        assert part.labels.shape == (len(part),)
        assert int(part.images.max()) > 128 > 64 > int(part.images.min())  # the full range, not 0 to 1
        assert set(part.labels.tolist()) == set(range(loaded.num_classes))
    assert loaded.num_image_channels in (1, 3)
    assert len(loaded.mean) == len(loaded.std) == loaded.num_image_channels


def test_what_is_known_without_loading_is_so(source: ImageSource, values: Mapping[str, Any]) -> None:
    loaded = load(values)
    assert source.num_image_channels in (None, loaded.num_image_channels)
    assert source.num_classes in (None, loaded.num_classes)
    assert (source.num_classes is None) == (source.num_image_channels is None) == (source.name == "folder")


def test_it_is_the_same_every_time(source: ImageSource, values: Mapping[str, Any]) -> None:
    num_classes = load(values).num_classes
    for more in ({}, {"num_train": 2 * num_classes, "num_test": num_classes}):
        first, second = (describe_dataset(load(values, **more)) for _ in range(2))
        assert first == second
        torch.manual_seed(1)
        assert describe_dataset(load(values, **more)) == first
    assert source.name in DATASETS


@pytest.mark.parametrize("num_channels", [1, 3])
def test_size_channels_and_subsets_are_those_asked_for(
    source: ImageSource, values: Mapping[str, Any], num_channels: int
) -> None:
    num_classes = load(values).num_classes
    shape = {"image_size": 12, "num_channels": num_channels}
    loaded = load(values, **shape, num_train=2 * num_classes, num_test=num_classes)
    assert loaded.train.images.shape == (2 * num_classes, num_channels, 12, 12)
    assert loaded.test.images.shape == (num_classes, num_channels, 12, 12)
    counts = Counter(loaded.train.labels.tolist())
    assert set(counts) == set(range(num_classes))
    # digits are no equal shares: of 20 images some class may have 1 or 3
    assert max(counts.values()) - min(counts.values()) <= (2 if source.name == "digits" else 0)


def test_a_source_that_reads_no_folder_refuses_one(source: ImageSource, tmp_path: Path) -> None:
    words = [f"data.name={source.name}", f"data.dir={tmp_path}"]
    if source.name == "digits":
        with pytest.raises(UsageError, match=r"data\.name=digits reads no folder; for your own"):
            load_config(overrides=words)
    else:
        assert load_config(overrides=[*words, "data.image_size=32"]).data.dir == str(tmp_path)


def test_sources_are_known_without_torch() -> None:
    code = (
        "import sys\n"
        "from cpnas_cli.registry import DATASETS, registered\n"
        "for name in DATASETS:\n"
        "    registered(DATASETS, name)\n"
        "assert not {'torch', 'torchvision', 'numpy', 'PIL', 'sklearn'} & sys.modules.keys(), sys.modules.keys()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
