"""Images as scanners, phones and other users leave them: nothing is read as something else, and the file is named."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import permissions
import pytest
from PIL import Image

from cpnas_cli.data.class_folders import read_class_folders
from cpnas_cli.data.decoding import decode_image
from cpnas_cli.data.folder import FOLDER
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig


def noise(path: Path, seed: int, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images of each of two classes."""
    for label, name in enumerate(("cat", "dog")):
        for index in range(5):
            noise(tmp_path / f"photos/{name}/{index}.png", 10 * label + index)
    return tmp_path / "photos"


def problem(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        FOLDER.load(DataConfig(name="folder", dir=str(root), image_size=8))
    return str(caught.value)


# ---------------------------------------------------------------- more bits than are known


@pytest.mark.parametrize(("least", "most"), [(0, 65536), (0, 2**31 - 1), (-1, 100)])
def test_whole_numbers_of_unknown_range_are_refused(least: int, most: int, tmp_path: Path) -> None:
    """A TIFF with 32 bits to a pixel; before, all above 65,535 was white without a word."""
    values = np.full((8, 8), 50, np.int32)
    values[0, 0], values[7, 7] = least, most
    Image.fromarray(values).save(tmp_path / "scan.tif")
    with pytest.raises(DataError, match=f"scan.tif has pixels from {least} to {most}, .* convert it to 8 or 16 bits"):
        decode_image(tmp_path / "scan.tif", image_size=8, num_channels=1)


def test_32_bits_with_no_more_than_16_are_read_as_16(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 8), dtype=np.int32)
    Image.fromarray(values).save(tmp_path / "scan.tif")
    (decoded,) = decode_image(tmp_path / "scan.tif", image_size=8, num_channels=1)
    np.testing.assert_array_equal(decoded, [[round(value / 257) for value in row] for row in values.tolist()])


# ---------------------------------------------------------------- Pillow's warnings


def test_warnings_of_pillow_name_the_file(photos: Path) -> None:
    """Of two images, whose warnings are the same; each once, though each is read several times."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # five entries are announced, and none is there
    for name in ("cat/9.jpg", "dog/9.jpg"):
        noise(photos / name, 0, exif=exif)
    words = [sys.executable, "-m", "cpnas_cli", "data", "photos"]
    answer = subprocess.run(words, cwd=photos.parent, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    notes = answer.stderr.splitlines()
    assert sorted(note.partition(": Corrupt EXIF data.")[0] for note in notes) == [
        "note: photos/cat/9.jpg",
        "note: photos/dog/9.jpg",
    ], answer.stderr


# ---------------------------------------------------------------- of another user


def test_an_image_that_may_not_be_read_is_not_called_damaged(photos: Path) -> None:
    (photos / "cat/1.png").chmod(0)
    with permissions.that_hold():
        message = problem(photos)
    assert message.startswith(f"cannot read the image {photos / 'cat/1.png'}: Permission denied; ")
    (photos / "dog/2.png").chmod(0)
    with permissions.that_hold():
        message = problem(photos)
    assert message.startswith(f"cannot read 2 of 10 images in {photos}: ")
    assert "(2: Permission denied)" in message


@pytest.mark.parametrize("name", ["", "cat"])
def test_a_folder_that_may_not_be_looked_into_is_named(name: str, photos: Path) -> None:
    (photos / name).chmod(0)
    try:
        with permissions.that_hold():
            message = problem(photos)
    finally:
        (photos / name).chmod(0o755)
    assert message == f"cannot look into {photos / name / 'train'}: Permission denied"


# ---------------------------------------------------------------- names


def test_names_of_classes_that_look_alike_are_refused(photos: Path) -> None:
    """As a Mac and a Linux machine write the same name: one code point, or a letter and its accent."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    for name in (composed, decomposed):
        for index in range(3):
            noise(photos / name / f"{index}.png", index)
    if len(os.listdir(photos)) < 4:
        pytest.skip("this file system takes the two names for one")
    message = problem(photos)
    assert "'caf\\xe9'" in message
    assert "'cafe\\u0301'" in message
    assert "look alike" in message


def test_names_as_long_as_a_file_system_takes(photos: Path) -> None:
    """255 bytes: files as well as a class."""
    (photos / "cat").rename(photos / ("c" * 255))
    (photos / "dog/1.png").rename(photos / "dog" / ("x" * 251 + ".png"))
    found = read_class_folders(photos, test_fraction=0.2)
    assert found.classes == ("c" * 255, "dog")
    assert len(found.train) + len(found.test) == 10
    assert not found.problems
