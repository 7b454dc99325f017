"""`cpnas data`: what it finds in folders whose contents are known, and what it says of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cpnas_cli.cli.app import app
from cpnas_cli.data.class_folders import read_class_folders

runner = CliRunner()


def picture(number: int, *, width: int = 12, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """cat: 6 training and 2 test images, dog: 2 and 1; all different, RGB, 12x8."""
    root = tmp_path / "photos"
    for number, name in enumerate(
        [f"train/cat/{i}.png" for i in range(6)]
        + [f"test/cat/{i}.png" for i in range(2)]
        + ["train/dog/0.png", "train/dog/1.png", "test/dog/0.png"]
    ):
        save(root / name, picture(number))
    return root


def invoke(*words: str | Path) -> Result:
    return runner.invoke(app, ["data", *map(str, words)])


def record(*words: str | Path, code: int = 0) -> dict[str, Any]:
    answer = invoke(*words, "--json")
    assert answer.exit_code == code, answer.output
    return json.loads(answer.stdout)


def test_counts_sizes_and_imbalance(photos: Path) -> None:
    save(photos / "train/cat/wide.jpg", picture(50, width=40, height=10))
    save(photos / "train/cat/grey.png", picture(51, width=10, height=20).convert("L"))
    found = record(photos)
    assert (found["schema"], found["usable"], found["problems"]) == ("cpnas.data/1", True, [])
    assert (found["num_train_images"], found["num_test_images"]) == (10, 3)
    assert found["train"] == {"cat": 8, "dog": 2}
    assert found["test"] == {"cat": 2, "dog": 1}
    assert found["split"] is None
    assert (found["imbalance"]["ratio"], found["imbalance"]["largest"], found["imbalance"]["smallest"]) == (
        4,
        "cat",
        "dog",
    )
    assert "add images of dog" in found["imbalance"]["hint"]
    assert found["sizes"] == {
        "num_distinct": 3,
        "width": {"min": 10, "median": 12, "max": 40},
        "height": {"min": 8, "median": 8, "max": 20},
    }
    assert found["modes"] == {"RGB": 12, "L": 1}
    assert found["num_channels"] == 3
    assert (found["duplicates"], found["unreadable"], found["skipped"]["num_files"]) == ([], [], 0)
    assert "channels: colour (12 colour, 1 grey)\n" in invoke(photos).stdout


def test_a_small_imbalance_is_no_reason_for_a_hint(photos: Path) -> None:
    for index in range(2, 4):
        save(photos / f"train/dog/{index}.png", picture(60 + index))
    assert record(photos)["imbalance"] == {"ratio": 1.5, "largest": "cat", "smallest": "dog", "hint": None}


def test_the_same_pixels_are_found_in_other_files(photos: Path) -> None:
    """As another format without loss, turned by its EXIF, beside a photo of other pixels and another of other shape."""
    save(photos / "test/cat/copy.bmp", picture(0))  # train/cat/0.png
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    save(photos / "train/dog/turned.png", picture(2).rotate(180), exif=turned)  # train/cat/2.png
    shutil.copy(photos / "train/dog/0.png", photos / "train/dog/z.png")
    pixels = np.asarray(picture(3))
    save(photos / "train/cat/reshaped.png", Image.fromarray(pixels.reshape(12, 8, 3)))  # the same bytes
    found = {tuple(entry["files"]): entry for entry in record(photos)["duplicates"]}
    across, classes, within = (
        ("train/cat/0.png", "test/cat/copy.bmp"),
        ("train/cat/2.png", "train/dog/turned.png"),
        ("train/dog/0.png", "train/dog/z.png"),
    )
    assert set(found) == {across, classes, within}
    assert [found[files]["across_split"] for files in (across, classes, within)] == [True, False, False]
    assert [found[files]["across_classes"] for files in (across, classes, within)] == [False, True, False]
    text = invoke(photos).stdout
    assert "duplicates (the same pixels): 3 images more than once" in text
    assert "1 in both training and test images, so that the test accuracy flatters\n    train/cat/0.png = " in text


def test_all_that_cannot_be_read_is_named_at_once(photos: Path) -> None:
    whole = (photos / "train/cat/0.png").read_bytes()
    (photos / "train/cat/0.png").write_bytes(whole[: len(whole) // 2])
    (photos / "train/dog/1.png").write_text("no image")
    (photos / "test/cat/1.png").write_bytes(b"")
    found = record(photos, code=1)
    assert [entry["image"] for entry in found["unreadable"]] == ["train/cat/0.png", "train/dog/1.png", "test/cat/1.png"]
    assert all(entry["error"] and "\n" not in entry["error"] for entry in found["unreadable"])
    assert found["usable"] is False
    assert found["problems"] == ["3 images cannot be read; leave them out or replace them"]
    answer = invoke(photos)
    assert answer.exit_code == 1
    for name in ("train/cat/0.png", "train/dog/1.png", "test/cat/1.png"):
        assert f"  {name}: " in answer.stdout
    assert answer.stdout.endswith("problem: 3 images cannot be read; leave them out or replace them\n")


def test_class_folders_alone_show_their_split(photos: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(photos / "train", plain)
    (plain / "cat/notes.txt").write_text("none")
    found = record(plain, "--set", "data.test_fraction=0.5")
    assert (found["num_train_images"], found["num_test_images"]) == (4, 4)
    split = found["split"]
    assert (split["test_fraction"], split["num_train_files"], split["num_test_files"]) == (0.5, 4, 4)
    expected = read_class_folders(plain, test_fraction=0.5)
    assert split["test_files"] == sorted(path.relative_to(plain).as_posix() for path, _ in expected.test)
    assert found["skipped"] == {"num_files": 1, "reasons": {"no image": 1}, "first": ["cat/notes.txt"]}
    assert (
        "split by the files' names, the same way every time (data.test_fraction=0.5)"
        in invoke(plain, "--set", "data.test_fraction=0.5").stdout
    )
    assert "skipped: 1 files: 1 no image (cat/notes.txt)" in invoke(plain).stdout


def test_every_problem_is_said(tmp_path: Path) -> None:
    save(tmp_path / "images/cat/0.png", picture(0))
    (tmp_path / "images/dog").mkdir()
    (tmp_path / "images/emu").mkdir()
    problems = record(tmp_path / "images", code=1)["problems"]
    assert [line.partition(" holds ")[0] for line in problems] == [
        str(tmp_path / "images" / name) for name in ("dog", "emu", "cat")
    ]


def test_no_folder_is_one_line(tmp_path: Path) -> None:
    answer = invoke(tmp_path / "missing")
    assert answer.exit_code == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith(f"cpnas: error: no data folder at {tmp_path / 'missing'}")
    assert len(answer.stderr.splitlines()) == 1


def test_a_contact_sheet_shows_every_class(photos: Path, tmp_path: Path) -> None:
    for index, colour in enumerate(((250, 0, 0), (0, 0, 250))):
        for path in (photos / "train" / ("cat", "dog")[index]).iterdir():
            save(path, Image.new("RGB", (30, 30), colour))
    (photos / "train/dog/1.png").write_text("no image")
    sheet = tmp_path / "sheet.png"
    answer = invoke(photos, "--contact-sheet", sheet)
    assert answer.exit_code == 1  # one image is damaged
    assert answer.stderr == f"contact sheet of 2 classes: {sheet}\n"
    with Image.open(sheet) as image:
        colours = {colour: count for count, colour in image.getcolors(1 << 20) or []}
    assert colours[(250, 0, 0)] == 6 * 30 * 30
    assert colours[(0, 0, 250)] == 1 * 30 * 30


def test_a_contact_sheet_is_a_png(photos: Path, tmp_path: Path) -> None:
    answer = invoke(photos, "--contact-sheet", tmp_path / "sheet.pdf")
    assert answer.exit_code == 2
    assert answer.stdout == ""  # said before a long look at all images
    assert "expects a .png file" in answer.stderr
