"""MNIST's own files: read as they were written, from every usual place; what is wrong is named in one line."""

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.data.idx import FASHION_MNIST, read_idx
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
COUNTS = {"train": 20, "t10k": 10}


def values_of(part: str) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(len(part))
    labels = (np.arange(COUNTS[part]) % 10).astype(np.uint8)
    return generator.integers(0, 256, (len(labels), 28, 28), dtype=np.uint8), labels


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_set(folder: Path, *, rename: Callable[[str], str] = str, pack: Callable[[bytes], bytes] = bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in COUNTS:
        for values, kind in zip(values_of(part), ("images-idx3", "labels-idx1"), strict=True):
            (folder / rename(f"{part}-{kind}-ubyte")).write_bytes(pack(idx(values)))
    return folder


def load(folder: Path | None, name: str = "fashion-mnist", **more: object) -> torch.Tensor:
    directory = None if folder is None else str(folder)
    values = {"name": name, "dir": directory, "image_size": 28, **more}
    loaded = load_dataset(DataConfig.model_validate(values))
    for part, images in (("train", loaded.train), ("t10k", loaded.test)):
        expected, labels = values_of(part)
        assert images.images.numpy().tobytes() == expected[:, None].tobytes()
        assert images.labels.tolist() == labels.tolist()
    return loaded.train.images


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("below", ["", "raw", "KIND/raw"])
def test_the_files_are_found_where_people_put_them(name: str, below: str, tmp_path: Path) -> None:
    kind = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    write_set(tmp_path / "data" / below.replace("KIND", kind))
    load(tmp_path / "data", name)


def test_gzipped_files_and_names_with_a_dot(tmp_path: Path) -> None:
    write_set(tmp_path / "gz", rename=lambda name: f"{name}.gz", pack=gzip.compress)
    load(tmp_path / "gz")
    write_set(tmp_path / "dots", rename=lambda name: name.replace("-idx", ".idx"))
    load(tmp_path / "dots")
    write_set(tmp_path / "renamed", pack=gzip.compress)  # gzipped, whatever the name says
    load(tmp_path / "renamed")


def test_an_installed_package_is_used_where_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = write_set(tmp_path / "package", rename=lambda name: f"{name}.gz", pack=gzip.compress)
    monkeypatch.setitem(vars(FASHION_MNIST), "installed", installed)
    load(None)
    write_set(tmp_path / "cache/datasets/FashionMNIST/raw")  # what was downloaded before goes first
    (installed / f"{NAMES[0]}.gz").write_bytes(b"")
    load(None)


def test_the_classes_are_those_of_torchvision(tmp_path: Path) -> None:
    loaded = load_dataset(DataConfig(name="fashion-mnist", dir=str(write_set(tmp_path / "data")), image_size=28))
    assert list(loaded.classes) == datasets.FashionMNIST.classes
    assert loaded.classes[9] == "Ankle boot"


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig(name="mnist", dir=str(folder), image_size=28))
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


IMAGES, LABELS = NAMES[0], NAMES[3]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, idx(values_of("train")[0])[:-1], "its header says 20 x 28 x 28 values, and it holds 15,679"),
        (IMAGES, idx(values_of("train")[0]) + b"\0", "its header says 20 x 28 x 28 values, and it holds more"),
        (IMAGES, idx(values_of("train")[0])[:9], "it ends within its header"),
        (IMAGES, b"", "it begins with nothing and not 00 00 08 03"),
        (IMAGES, idx(values_of("train")[1]), "it begins with 00 00 08 01 and not 00 00 08 03"),
        (IMAGES, b"\x89PNG and more than a header", "no IDX file of 3 dimensions of bytes: it begins with 89 50 4e 47"),
        (IMAGES, struct.pack(">BBBB3I", 0, 0, 8, 3, 1 << 31, 1 << 31, 1 << 31), "its header says 2147483648 x"),
        (IMAGES, struct.pack(">BBBB3I", 0, 0, 8, 3, 0, 28, 28), "its header says 0 x 28 x 28 values"),
        (IMAGES, idx(values_of("train")[0][:19]), "holds 19 images and 20 labels in its train files"),
        (IMAGES, idx(np.zeros((20, 28, 14), np.uint8)), "holds images of 28x14 pixels, not square ones"),
        (IMAGES, idx(np.zeros((20, 14, 14), np.uint8)), "have 14x14 pixels, the test images 28x28"),
        (LABELS, idx(np.full(10, 10, np.uint8)), "holds the label 10; MNIST has 0 to 9"),
        (LABELS, gzip.compress(idx(values_of("t10k")[1]), mtime=0)[:-4], "cannot read"),
        (LABELS, b"\x1f\x8b and no gzip", "cannot read"),
        (LABELS, gzip.compress(b"\0" * 100, mtime=0), "it begins with 00 00 00 00"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "data")
    (folder / name).write_bytes(content)
    assert message in refused(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    folder = write_set(tmp_path / "data")
    (folder / name).unlink()
    assert f"lacks {name} (or {name}.gz)" in refused(folder)


def test_a_small_gzip_of_much_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(4, np.uint8)) + bytes(1 << 26)))
    with pytest.raises(DataError, match="its header says 4 values, and it holds more"):
        read_idx(path, num_dimensions=1)


@pytest.mark.skipif(not FASHION_MNIST.installed or not FASHION_MNIST.installed.is_dir(), reason="package not installed")
def test_the_real_files() -> None:
    """Against sums over the files of the package, which are those that torchvision downloads."""
    loaded = load_dataset(DataConfig(name="fashion-mnist", image_size=28))
    assert (len(loaded.train), len(loaded.test)) == (60_000, 10_000)
    assert torch.bincount(loaded.train.labels).tolist() == [6_000] * 10
    assert loaded.mean == pytest.approx((0.2860,), abs=1e-4)  # as published for the training images
    assert loaded.std == pytest.approx((0.3530,), abs=1e-4)
    assert FASHION_MNIST.installed is not None
    raw = gzip.decompress((FASHION_MNIST.installed / "t10k-images-idx3-ubyte.gz").read_bytes())
    digest = hashlib.sha256(loaded.test.images.numpy().tobytes()).hexdigest()
    assert digest == hashlib.sha256(raw[16:]).hexdigest()
