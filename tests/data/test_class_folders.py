"""Images as people have them: plain class folders, folders in folders, stray files and links to nowhere."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cpnas_cli.data.class_folders import ClassFolders, is_test_image, read_class_folders
from cpnas_cli.data.dataset import Dataset, describe_dataset, load_dataset
from cpnas_cli.data.decoding import decode_image
from cpnas_cli.data.listing import Skipped, describe_skipped, files_below, split_files
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig

PUBLISHED = ["cat/4.jpg", "cat/5.jpg", "cat/6.jpg"]
"""The first of `printf "cpnas test split\\0cat/%d.jpg" $i | b2sum -l 128` for 0 to 9."""


def save(path: Path, number: int = 0) -> Path:
    """A small image that only this number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def plain_folder(root: Path, **counts: int) -> Path:
    for label, (name, count) in enumerate(counts.items()):
        for index in range(count):
            save(root / name / f"{index:03d}.png", 1000 * label + index)
    return root


def load(root: Path, **values: Any) -> Dataset:
    return load_dataset(DataConfig.model_validate({"name": "folder", "dir": str(root), "image_size": 8, **values}))


def names(found: ClassFolders, part: str) -> list[str]:
    return [path.relative_to(found.root).as_posix() for path, _ in getattr(found, part)]


def problem(root: Path, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- class folders alone


def test_plain_class_folders_are_split_by_class(tmp_path: Path) -> None:
    loaded = load(plain_folder(tmp_path / "images", cat=10, dog=20, emu=2))
    assert loaded.classes == ("cat", "dog", "emu")
    assert Counter(loaded.train.labels.tolist()) == {0: 8, 1: 16, 2: 1}
    assert Counter(loaded.test.labels.tolist()) == {0: 2, 1: 4, 2: 1}
    both = torch.cat([loaded.train.images, loaded.test.images]).flatten(1)
    assert len({bytes(row.tolist()) for row in both}) == 32  # every image once


@pytest.mark.parametrize(
    ("count", "fraction", "num_test"),
    [
        (2, 0.01, 1),
        (2, 0.99, 1),
        (5, 0.5, 3),
        (10, 0.2, 2),
        (10, 0.25, 3),
        (10, 0.24, 2),
        (3, 0.9, 2),
        (100, 0.333, 33),
    ],
)
def test_a_share_is_rounded_and_leaves_one_of_each(count: int, fraction: float, num_test: int) -> None:
    assert sum(is_test_image([f"a/{index}" for index in range(count)], fraction)) == num_test


def test_the_split_depends_on_the_names_alone(tmp_path: Path) -> None:
    one = plain_folder(tmp_path / "one", cat=30, dog=30)
    other = tmp_path / "other"
    for path in sorted(one.glob("*/*"), reverse=True):  # other pixels, another order, another folder
        save(other / path.relative_to(one), 77)
    torch.manual_seed(3)
    first, second = (read_class_folders(root, test_fraction=0.3) for root in (one, other))
    assert names(first, "test") == names(second, "test")
    assert first.split_record() == second.split_record()
    assert names(first, "test") != names(first, "train")[: len(first.test)]
    # not the same places in both classes
    assert [name for name in names(first, "test") if "cat" in name] != [
        name.replace("dog", "cat") for name in names(first, "test") if "dog" in name
    ]


def test_the_split_is_the_one_that_was_published() -> None:
    """Ranked with coreutils' b2sum: a run of today and one of next year have the same test images."""
    files = [f"cat/{index}.jpg" for index in range(10)]
    assert [name for name, tests in zip(files, is_test_image(files, 0.3), strict=True) if tests] == PUBLISHED


def test_an_image_more_moves_at_most_one_other() -> None:
    files = [f"cat/{index}.jpg" for index in range(50)]
    before = dict(zip(files, is_test_image(files, 0.2), strict=True))
    after = dict(zip([*files, "cat/new.jpg"], is_test_image([*files, "cat/new.jpg"], 0.2), strict=True))
    assert sum(before[name] != after[name] for name in files) <= 1


def test_no_fraction_of_nothing_or_all() -> None:
    for value in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="test_fraction"):
            DataConfig.model_validate({"test_fraction": value})


def test_a_class_with_one_image_cannot_be_split(tmp_path: Path) -> None:
    message = problem(plain_folder(tmp_path / "images", cat=4, dog=1))
    assert message.startswith(
        f"{tmp_path / 'images/dog'} holds a single image; a split needs one to train and one to test"
    )


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a" / "train", cat=3, dog=3)
    assert "has no test/ folder" in problem(tmp_path / "a") or "has no val/ folder" in problem(tmp_path / "a")
    plain_folder(tmp_path / "b", cat=3, val=3)  # a class named val, or validation images: who knows
    assert "has no train/ folder" in problem(tmp_path / "b")
    for name in ("one", "two"):  # two data sets, not two classes
        for part in ("train", "test"):
            plain_folder(tmp_path / "c" / name / part, cat=2, dog=2)
    assert f"{tmp_path / 'c' / 'one'} is a data set of its own" in problem(tmp_path / "c")
    plain_folder(tmp_path / "d" / "flowers", rose=2, tulip=2)
    assert problem(tmp_path / "d").endswith(f"; if its folders are the classes, name {tmp_path / 'd' / 'flowers'}")
    (tmp_path / "e").mkdir()
    save(tmp_path / "e" / "1.png")
    assert "has no class folders" in problem(tmp_path / "e")


def test_the_split_is_recorded(tmp_path: Path) -> None:
    root = plain_folder(tmp_path / "images", cat=10, dog=10)
    loaded = load(root, test_fraction=0.5, num_train=6, num_test=4)
    document = describe_dataset(loaded)
    split = document["split"]
    # files before num_train and num_test take some of them
    assert (split["test_fraction"], split["num_train_files"], split["num_test_files"]) == (0.5, 10, 10)
    assert (document["num_train_images"], document["num_test_images"]) == (6, 4)
    assert loaded.notes == (
        f"{root} has no train/ and test/: 10 of its images train and 10 test, the same ones every time "
        "(data.test_fraction=0.5)",
    )
    (root / "cat" / "000.png").rename(root / "cat" / "renamed.png")
    for other in ({"test_fraction": 0.4}, {}):
        assert describe_dataset(load(root, **{"test_fraction": 0.5, **other}))["split"] != split


def test_train_and_test_folders_are_recorded_as_before(image_folder: Path) -> None:
    loaded = load(image_folder)
    assert loaded.notes == ()
    assert list(describe_dataset(loaded)) == [
        *("schema", "classes", "num_train_images", "num_test_images", "image_shape", "mean", "std", "hash"),
    ]


# ---------------------------------------------------------------- nothing is skipped in silence


def test_what_is_skipped_is_counted_and_named(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part, count in (("train", 4), ("test", 2)):
        plain_folder(root / part, cat=count, dog=count)
    (root / "train/cat/notes.txt").write_text("seen on Sunday")
    (root / "train/cat/list.csv").write_text("a,b")
    (root / "train/cat/deeper").mkdir()
    (root / "train/cat/deeper/readme").write_text("none")
    (root / "train/cat/z.md").write_text("none")
    (root / "train/dog/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (root / "test/dog/circle.jpg").symlink_to(root / "test/dog/circle.jpg")
    save(root / "train/loose.png")
    os.mkfifo(root / "test/cat/pipe.png")
    for name in (".hidden", "Thumbs.db"):
        (root / "train/dog" / name).write_text("not spoken of")
    loaded = load(root)
    assert (len(loaded.train), len(loaded.test)) == (8, 4)
    (note,) = loaded.notes
    assert note == (
        f"skipped in {root}: 1 lies in no class folder (train/loose.png); 4 are no images (train/cat/deeper/readme, "
        "train/cat/list.csv, train/cat/notes.txt, ...); 2 are links without a target (train/dog/gone.jpg, "
        "test/dog/circle.jpg); 1 is no regular file (test/cat/pipe.png)"
    )
    skipped = describe_dataset(loaded)["skipped"]
    assert skipped["num_files"] == 8
    assert skipped["reasons"] == {"no class": 1, "no image": 4, "dangling link": 2, "no file": 1}
    assert skipped["first"][:2] == ["train/loose.png", "train/cat/deeper/readme"]


def test_images_beside_train_and_test_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for part, count in (("train", 4), ("test", 2)):
        plain_folder(root / part, cat=count, dog=count)
    plain_folder(root / "unsorted", later=2)
    save(root / "loose.png")
    (root / "README.txt").write_text("no image, and no note")
    (root / "unsorted/list.csv").write_text("neither")
    (note,) = load(root).notes
    assert note == (
        f"skipped in {root}: 3 lie in no class folder (loose.png, unsorted/later/000.png, unsorted/later/001.png)"
    )


def test_images_in_folders_of_a_class_belong_to_it(tmp_path: Path) -> None:
    flat, deep = tmp_path / "flat", tmp_path / "deep"
    for part in ("train", "test"):
        plain_folder(flat / part, cat=4, dog=4)
        plain_folder(deep / part, cat=4, dog=4)
    (deep / "train/cat/sub/subsub").mkdir(parents=True)
    for index in (2, 3):
        (deep / f"train/cat/{index:03d}.png").rename(deep / f"train/cat/sub/subsub/{index:03d}.png")
    (deep / "train/cat/loop").symlink_to(deep / "train/cat")  # which is looked through once
    first, second = load(flat), load(deep)
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.train.labels, second.train.labels)
    assert second.notes == ()


def test_links_to_images_and_folders_are_followed(tmp_path: Path) -> None:
    plain_folder(tmp_path / "real", cat=4, dog=4)
    (tmp_path / "root/dog").mkdir(parents=True)
    (tmp_path / "root/cat").symlink_to(tmp_path / "real/cat")
    for index in range(4):
        (tmp_path / f"root/dog/{index:03d}.png").symlink_to(tmp_path / f"real/dog/{index:03d}.png")
    assert torch.equal(load(tmp_path / "root").train.images, load(tmp_path / "real").train.images)


def test_an_image_without_an_ending_is_one(tmp_path: Path) -> None:
    save(tmp_path / "photo")
    save(tmp_path / "scan.orig")
    (tmp_path / "text.jpg").write_text("meant to be an image")
    (tmp_path / "phone.HEIC").write_bytes(b"....ftypheic")
    (tmp_path / "text").write_text("none")
    found, skipped = split_files(files_below(tmp_path))
    assert [path.name for path in found] == ["phone.HEIC", "photo", "scan.orig", "text.jpg"]
    assert skipped == [Skipped(tmp_path / "text", "no image")]


def test_nothing_skipped_is_nothing_said(tmp_path: Path) -> None:
    assert describe_skipped([], tmp_path) is None


def test_a_class_of_skipped_files_says_what_is_there(tmp_path: Path) -> None:
    plain_folder(tmp_path / "images", cat=3, dog=3)
    (tmp_path / "images/emu").mkdir()
    (tmp_path / "images/emu/gone.jpg").symlink_to(tmp_path / "nowhere")
    message = problem(tmp_path / "images")
    assert message == f"{tmp_path / 'images/emu'} holds no images (1 is a link without a target (gone.jpg))"


# ---------------------------------------------------------------- damaged images


@pytest.mark.parametrize("num_channels", [None, 3])
def test_damaged_images_are_named_at_once(num_channels: int | None, tmp_path: Path) -> None:
    """In both parts, whether the header or the pixels are damaged; one alone as before."""
    root = tmp_path / "images"
    for part in ("train", "test"):
        plain_folder(root / part, cat=4, dog=4)
    cut = root / "train/cat/001.png"
    cut.write_bytes(cut.read_bytes()[:120])
    assert problem(root, num_channels=num_channels).startswith(f"cannot read the image {cut}: ")
    (root / "train/dog/002.png").write_text("no image")
    (root / "test/dog/003.png").write_bytes(b"")
    assert problem(root, num_channels=num_channels) == (
        f"cannot read 3 of 16 images in {root}: train/cat/001.png, train/dog/002.png, test/dog/003.png; they are no "
        f"images that Pillow knows, or damaged; leave them out (`cpnas data {root}` names all)"
    )


def test_an_image_of_too_many_pixels_is_not_called_damaged(tmp_path: Path) -> None:
    """14,000 x 14,000 grey pixels, more than Pillow reads."""
    Image.new("1", (14_000, 14_000)).save(tmp_path / "large.png")
    with pytest.raises(DataError) as caught:
        decode_image(tmp_path / "large.png", image_size=8, num_channels=1)
    assert str(caught.value) == (
        f"cannot read the image {tmp_path / 'large.png'}: it has more than 178,956,970 pixels; make it smaller"
    )


# ---------------------------------------------------------------- names that are not UTF-8


def test_a_file_name_in_another_encoding_is_read(tmp_path: Path) -> None:
    root = plain_folder(tmp_path / "images", cat=5, dog=5)
    expected = load(root)
    for path in sorted(root.glob("dog/*")):
        os.rename(path, os.fsencode(path.parent) + b"/caf\xe9" + os.fsencode(path.name))
    loaded = load(root)
    assert len(loaded.train) == len(expected.train)
    json.dumps(describe_dataset(loaded)).encode()


def test_a_class_name_in_another_encoding_is_refused(tmp_path: Path) -> None:
    root = plain_folder(tmp_path / "images", cat=5, dog=5)
    os.rename(root / "dog", os.fsencode(root) + b"/caf\xe9")
    message = problem(root)
    assert message == f"{root} has a class folder whose name is not in UTF-8, 'caf\\udce9'; rename it"
