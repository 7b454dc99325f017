"""`data.fit`: how images that are not square are made so, the same in training and prediction."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from children import make_child
from command_line import GENOTYPE
from PIL import Image, ImageOps

from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.data.decoding import decode_image
from cpnas_cli.deploy.c_source.files import c_source
from cpnas_cli.deploy.packed_file import load_packed, save_packed
from cpnas_cli.deploy.packing import pack
from cpnas_cli.deploy.predict import _decode
from cpnas_cli.settings import DataConfig, FitName, load_config, preset_names

BILINEAR = Image.Resampling.BILINEAR


def photo(path: Path, width: int, height: int, *, number: int = 0) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return Image.fromarray(pixels)


def decoded(path: Path, fit: FitName, *, size: int = 8) -> np.ndarray:
    return decode_image(path, image_size=size, num_channels=3, fit=fit).transpose(1, 2, 0)


@pytest.mark.parametrize(("width", "height"), [(40, 16), (16, 41), (9, 8), (7, 3)])
def test_a_crop_is_the_centre_and_nothing_is_distorted(tmp_path: Path, width: int, height: int) -> None:
    """As Pillow's own `ImageOps.fit` has it."""
    image = photo(tmp_path / "a.png", width, height)
    assert np.array_equal(decoded(tmp_path / "a.png", "crop"), np.array(ImageOps.fit(image, (8, 8), BILINEAR)))


@pytest.mark.parametrize(("width", "height"), [(40, 18), (16, 41), (9, 8)])
def test_a_letterbox_holds_the_whole_image_on_black(tmp_path: Path, width: int, height: int) -> None:
    image = photo(tmp_path / "a.png", width, height)
    found = decoded(tmp_path / "a.png", "letterbox")
    assert np.array_equal(found, np.array(ImageOps.pad(image, (8, 8), BILINEAR)))


def test_a_thin_image_keeps_a_line(tmp_path: Path) -> None:
    Image.new("RGB", (200, 3), "white").save(tmp_path / "a.png")
    assert (decoded(tmp_path / "a.png", "letterbox").max(axis=(1, 2)) == 255).sum() == 1


def test_a_square_image_is_the_same_in_all(tmp_path: Path) -> None:
    image = photo(tmp_path / "a.png", 20, 20)
    expected = np.array(image.resize((8, 8), BILINEAR))
    for fit in ("squash", "crop", "letterbox"):
        assert np.array_equal(decoded(tmp_path / "a.png", fit), expected), fit
    photo(tmp_path / "b.png", 8, 8)
    assert np.array_equal(decoded(tmp_path / "b.png", "crop"), np.array(Image.open(tmp_path / "b.png")))


def test_training_sees_what_prediction_sees_and_a_cache_is_of_one_fit(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            for index in range(2):
                photo(tmp_path / "images" / part / name / f"{index}.png", 20, 12, number=10 * label + index)
    seen = {}
    child = make_child(GENOTYPE, image_size=8, num_image_channels=3)
    for fit in ("squash", "crop", "letterbox", "squash"):
        values = {"name": "folder", "dir": str(tmp_path / "images"), "image_size": 8, "fit": fit}
        train = load_dataset(DataConfig.model_validate(values)).train
        config = child.trained.config
        config = config.model_copy(update={"data": config.data.model_copy(update={"fit": fit})})
        model = pack(replace(child.trained, config=config))
        save_packed(model, tmp_path / "model")
        answer = _decode(tmp_path / "images/train/dog/1.png", load_packed(tmp_path / "model"))
        assert isinstance(answer, tuple)
        assert np.array_equal(answer[1], train.images[3].numpy()), fit
        seen[fit] = train.images
    assert not torch.equal(seen["squash"], seen["crop"])
    assert not torch.equal(seen["letterbox"], seen["crop"])


def _with_config(trained, config):
    return replace(trained, config=config)


def test_a_packed_file_that_says_nothing_squashes(tmp_path: Path) -> None:
    """As older ones do, and as one that squashes is written, to the byte."""
    model = pack(make_child(GENOTYPE, image_size=8, num_image_channels=3).trained)
    save_packed(model, tmp_path / "squash")
    assert load_packed(tmp_path / "squash").fit == "squash"
    header = (tmp_path / "squash").read_bytes()
    description = json.loads(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]["cpnas"])
    assert "fit" not in description


def test_c_source_says_how_an_image_is_made_square() -> None:
    model = pack(make_child(GENOTYPE, image_size=8, num_image_channels=3).trained)
    assert (
        "resized before (bilinear, without regard to its aspect, as `cpnas predict` does it)."
        in (c_source(model).files["README.md"])
    )
    assert (
        "cut before to the largest square about its centre" in c_source(replace(model, fit="crop")).files["README.md"]
    )


def test_only_the_preset_of_photos_crops() -> None:
    assert {name: load_config(name).data.fit for name in preset_names() if load_config(name).data.fit != "squash"} == {
        "folder": "crop"
    }
