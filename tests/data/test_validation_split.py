"""Images that validate: a share of the training images, or a val/ folder beside test/."""

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cpnas_cli.data.dataset import Dataset, ImageSet, describe_dataset, load_dataset
from cpnas_cli.data.inspection import inspect_folder, inspection_document
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig, load_config


def pixels_of(number: int, *, grey: bool = False) -> np.ndarray:
    """A small image that only this number has."""
    return np.random.default_rng(number).integers(0, 256, (8, 8) if grey else (8, 8, 3), dtype=np.uint8)


def fill(root: Path, parts: dict[str, int], *, grey: bool = False) -> Path:
    """The same number of images of cat and dog in every part."""
    number = 0
    for part, count in parts.items():
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                number += 1
                Image.fromarray(pixels_of(number, grey=grey)).save(root / part / name / f"{index:02d}.png")
    return root


def load(root: Path | None = None, **values: Any) -> Dataset:
    folder = {} if root is None else {"name": "folder", "dir": str(root)}
    return load_dataset(DataConfig.model_validate({"image_size": 8, **folder, **values}))


def rows(images: ImageSet | None) -> set[bytes]:
    assert images is not None
    return {image.numpy().tobytes() for image in images.images}


def problem(root: Path | None = None, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- a share of the training images


def test_a_share_of_every_class_validates_and_is_not_trained_on() -> None:
    whole, split = load(), load(validation_fraction=0.25)
    assert split.validation is not None
    expected = {label: int(count * 0.25 + 0.5) for label, count in Counter(whole.train.labels.tolist()).items()}
    assert Counter(split.validation.labels.tolist()) == expected
    train, validation = rows(split.train), rows(split.validation)
    assert not train & validation
    assert train | validation == rows(whole.train)
    assert torch.equal(split.test.images, whole.test.images)
    (note,) = split.notes
    assert note.startswith(f"{sum(expected.values())} of {len(whole.train):,} training images validate in trainings")


def test_the_share_is_of_the_subset_that_was_asked_for() -> None:
    subset, split = load(num_train=40), load(num_train=40, validation_fraction=0.25)
    assert split.validation is not None
    assert (len(split.train), len(split.validation)) == (30, 10)
    assert rows(split.train) | rows(split.validation) == rows(subset.train)


def test_the_share_is_chosen_by_the_names_of_files(tmp_path: Path) -> None:
    """With coreutils' b2sum: those whose names have the smallest hashes, whatever is in the files."""
    root = fill(tmp_path / "images", {"train": 10, "test": 2})
    split = load(root, validation_fraction=0.3)
    expected = set()
    for label, name in enumerate(("cat", "dog")):
        digests = {}
        for index in range(10):
            text = f"cpnas validation split\0train/{name}/{index:02d}.png".encode()
            answer = subprocess.run(["b2sum", "-l", "128"], input=text, capture_output=True, check=True)
            digests[answer.stdout.split()[0]] = 10 * label + index + 1
        expected |= {pixels_of(number).transpose(2, 0, 1).tobytes() for _, number in sorted(digests.items())[:3]}
    assert rows(split.validation) == expected


def test_statistics_are_those_of_the_images_that_train() -> None:
    split = load(validation_fraction=0.5)
    values = split.train.images.double() / 255
    assert split.mean[0] == pytest.approx(values.mean().item(), abs=1e-6)
    assert split.std[0] == pytest.approx(values.std().item(), abs=1e-6)


def test_a_class_with_one_image_cannot_be_shared(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"train": 2, "test": 1})
    (root / "train/dog/01.png").unlink()
    assert problem(root, validation_fraction=0.2) == (
        "dog has a single training image; data.validation_fraction=0.2 needs one to train and one to validate: "
        "add images, or --set data.validation_fraction=0"
    )
    assert "leaves no training image of" in problem(num_train=5, validation_fraction=0.2)


def test_no_fraction_below_nothing_nor_all() -> None:
    for value in (-0.1, 1, 1.5):
        with pytest.raises(ValueError, match="validation_fraction"):
            DataConfig.model_validate({"validation_fraction": value})


# ---------------------------------------------------------------- val/


def test_val_validates_beside_test(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"train": 4, "test": 2, "val": 3})
    loaded = load(root)
    assert rows(loaded.validation) == {pixels_of(number).transpose(2, 0, 1).tobytes() for number in range(13, 19)}
    assert (len(loaded.train), len(loaded.test)) == (8, 4)
    assert loaded.notes == (f"{root / 'val'} validates in trainings (6 images), and no search looks at it",)
    message = problem(root, validation_fraction=0.2)
    assert message.startswith(f"{root} has a val/ beside test/")
    assert message.endswith("data.validation_fraction=0")


def test_val_alone_is_the_test_set(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"train": 4, "val": 3})
    loaded = load(root)
    assert loaded.validation is None
    assert len(loaded.test) == 6
    split = load(root, validation_fraction=0.5)
    assert split.validation is not None
    assert (len(split.train), len(split.validation), len(split.test)) == (4, 4, 6)


def test_val_beside_test_changes_nothing_else(tmp_path: Path) -> None:
    """What a run of a version that did not look at it knows of its images is what it knows now."""
    root = fill(tmp_path / "images", {"train": 4, "test": 2}, grey=True)
    before = describe_dataset(load(root))
    fill(root, {"val": 3})  # in colour, where all others are grey
    document = describe_dataset(load(root))
    assert document.pop("num_validation_images") == 6
    first = document.pop("hash_validation")
    assert len(first) == 32
    assert document == before
    (root / "val/cat/00.png").write_bytes((root / "val/dog/00.png").read_bytes())
    changed = describe_dataset(load(root))
    assert changed["hash"] == before["hash"]
    assert changed["hash_validation"] != first
    (root / "val/emu").mkdir()
    assert problem(root) == f"{root / 'val'} has classes that {root / 'train'} lacks: emu"


def test_an_empty_val_is_no_part(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"train": 4, "test": 2})
    (root / "val").mkdir()
    assert load(root).validation is None
    (root / "val/cat").mkdir()
    assert problem(root).startswith(f"{root / 'val'} holds no images")


def test_data_shows_val_and_what_it_shares(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"train": 4, "test": 2, "val": 3})
    (root / "val/dog/02.png").write_bytes((root / "train/dog/03.png").read_bytes())
    document = inspection_document(inspect_folder(root, test_fraction=0.2))
    assert document["num_validation_images"] == 6
    assert document["validation"] == {"cat": 3, "dog": 3}
    (twice,) = document["duplicates"]
    assert twice == {
        "files": ["train/dog/03.png", "val/dog/02.png"],
        "across_split": True,
        "across_classes": False,
    }


def test_it_is_off_by_default() -> None:
    for preset in ("digits", "folder", "cifar10"):
        assert load_config(preset).data.validation_fraction == 0
