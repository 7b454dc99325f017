"""Images: what is decoded, what the cache may answer, the splits, and batches against a loop per image in numpy."""

import copy
import json
import os
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, UnidentifiedImageError
from sklearn.datasets import load_digits
from torch import Tensor

from cpnas_cli.data import cache as images
from cpnas_cli.data.augmentation import draw_augmentation
from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import Dataset, ImageSet, load_dataset
from cpnas_cli.data.decoding import decode_image
from cpnas_cli.data.splits import balanced_subset, split_for_search
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig
from cpnas_cli.storage.cache import cache_folder

FEW = settings(max_examples=30, deadline=None, derandomize=True)


def pixels_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def folder_config(root: Path, **values: Any) -> DataConfig:
    return DataConfig.model_validate({"name": "folder", "dir": str(root), "image_size": 16, **values})


def load_folder(root: Path, **values: Any) -> Dataset:
    return load_dataset(folder_config(root, **values))


def write_folder(root: Path, images: dict[str, Image.Image], **options: Any) -> None:
    """The images as train/CLASS/NAME, and one plain image per class as test/CLASS/0.png."""
    for name, image in images.items():
        path = root / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
    for name in {Path(name).parts[0] for name in images}:
        (root / "test" / name).mkdir(parents=True)
        Image.new("L", (16, 16), 100).save(root / "test" / name / "0.png")


# ---------------------------------------------------------------- decoding


def test_a_colour_image_is_its_pixels(tmp_path: Path) -> None:
    pixels = pixels_of(8, 8, 3)
    for name in ("a.png", "a.bmp", "a.webp", "a.tiff", "a.ppm"):
        Image.fromarray(pixels).save(tmp_path / name, lossless=True)  # which only WebP asks for
        decoded = decode_image(tmp_path / name, image_size=8, num_channels=3)
        assert decoded.dtype == np.uint8
        np.testing.assert_array_equal(decoded, pixels.transpose(2, 0, 1))


def test_a_grey_image_is_its_pixels(tmp_path: Path) -> None:
    pixels = pixels_of(8, 8)
    for name in ("a.png", "a.bmp", "a.gif", "a.pgm"):
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(decode_image(tmp_path / name, image_size=8, num_channels=1), pixels[None])
        in_colour = decode_image(tmp_path / name, image_size=8, num_channels=3)
        np.testing.assert_array_equal(in_colour, np.broadcast_to(pixels, (3, 8, 8)))


def test_a_jpeg_is_nearly_its_pixels(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 16, dtype=np.uint8)[:, None, None], (16, 16, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "a.jpg", quality=95)
    decoded = decode_image(tmp_path / "a.jpg", image_size=16, num_channels=3).transpose(1, 2, 0)
    assert np.abs(decoded.astype(int) - ramp.astype(int)).max() <= 8


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    pixels = pixels_of(8, 8, 4)
    pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = pixels[..., :3].copy()
    expected[:4] = 255
    decoded = decode_image(tmp_path / "a.png", image_size=8, num_channels=3)
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), expected)
    pixels[..., 3] = 128
    Image.fromarray(pixels).save(tmp_path / "half.png")
    share = 128 / 255
    blended = pixels[..., :3] * share + 255 * (1 - share)
    decoded = decode_image(tmp_path / "half.png", image_size=8, num_channels=3).transpose(1, 2, 0)
    assert np.abs(decoded - blended).max() <= 1


def test_grey_with_transparency_is_over_white(tmp_path: Path) -> None:
    pixels = pixels_of(8, 8, 2)
    pixels[..., 1] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (decode_image(tmp_path / "a.png", image_size=8, num_channels=1) == 255).all()


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (8, 8))
    colours = pixels_of(256, 3, seed=1)
    image.putpalette(colours.tobytes())
    indices = pixels_of(8, 8)
    image.putdata(indices.flatten().tolist())
    expected = colours[indices]
    for name in ("a.png", "a.gif"):
        image.save(tmp_path / name)
        decoded = decode_image(tmp_path / name, image_size=8, num_channels=3)
        np.testing.assert_array_equal(decoded.transpose(1, 2, 0), expected)
    image.save(tmp_path / "clear.png", transparency=int(indices[0, 0]))
    expected[indices == indices[0, 0]] = 255
    decoded = decode_image(tmp_path / "clear.png", image_size=8, num_channels=3)
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), expected)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8)).astype(np.uint16)
    pixels[0, 0], pixels[0, 1] = 0, 65535
    for name in ("a.png", "a.tiff", "a.pgm"):
        if name == "a.pgm":
            (tmp_path / name).write_bytes(b"P5 8 8 65535\n" + pixels.astype(">u2").tobytes())
        else:
            Image.fromarray(pixels).save(tmp_path / name)
        decoded = decode_image(tmp_path / name, image_size=8, num_channels=1)[0]
        assert np.abs(decoded - pixels / 257.0).max() <= 1
        in_colour = decode_image(tmp_path / name, image_size=8, num_channels=3)
        assert np.abs(in_colour - pixels / 257.0).max() <= 1


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = pixels_of(8, 8) > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", image_size=8, num_channels=1)[0], bits * 255)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a.transpose(1, 0, 2)[::-1, ::-1]),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_a_rotated_photograph_is_upright(
    orientation: int, turn: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    pixels = pixels_of(8, 8, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    decoded = decode_image(tmp_path / "a.png", image_size=8, num_channels=3)
    np.testing.assert_array_equal(decoded.transpose(1, 2, 0), turn(pixels))


@pytest.mark.parametrize("size", [(1, 1), (16, 8), (5, 31), (64, 64)])
def test_any_size_becomes_the_size_asked_for(size: tuple[int, int], tmp_path: Path) -> None:
    """Of one colour it stays of that colour; a ramp stays a ramp."""
    Image.new("RGB", size, (10, 200, 30)).save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png", image_size=16, num_channels=3)
    assert decoded.shape == (3, 16, 16)
    np.testing.assert_array_equal(decoded.reshape(3, -1).T, np.tile([10, 200, 30], (256, 1)))
    ramp = np.linspace(0, 255, 64)[None].repeat(32, axis=0).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    decoded = decode_image(tmp_path / "ramp.png", image_size=16, num_channels=1)[0].astype(int)
    assert (np.diff(decoded, axis=1) > 0).all()
    assert (decoded == decoded[0]).all()
    # anti-aliased: the mean of the four columns that become one, up to the filter's overlap
    assert np.abs(decoded[0, 1:-1] - ramp[0].reshape(16, 4).mean(axis=1)[1:-1]).max() <= 1.5


@pytest.mark.parametrize(
    ("content", "name"), [(b"", "a.png"), (b"no image", "a.jpg"), (b"\x89PNG\r\n\x1a\n", "a.png"), (b"GIF89a", "a.gif")]
)
def test_no_image_is_named(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="cannot read the image") as caught:
        decode_image(tmp_path / name, image_size=8, num_channels=3)
    assert str(tmp_path / name) in str(caught.value)
    assert str(caught.value).endswith("; leave it out")


def test_an_image_with_a_damaged_exif_is_named(tmp_path: Path) -> None:
    """A width that is a text, beside an orientation: turned upright, the rest of the EXIF is written again."""
    tags = [struct.pack("<HHI4s", 0x0100, 2, 4, b"abc"), struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)]
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    with pytest.raises(DataError, match=r"cannot read the image .*a\.jpg"):
        decode_image(tmp_path / "a.jpg", image_size=8, num_channels=3)


@pytest.mark.parametrize(
    "error",
    [
        struct.error,
        zlib.error,
        EOFError,
        KeyError,
        TypeError,
        IndexError,
        OverflowError,
        RuntimeError,
        NotImplementedError,
        SyntaxError,
        ValueError,
        OSError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ],
)
def test_whatever_a_damaged_image_makes_pillow_raise(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise error("damaged")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"cannot read the image .*a\.png"):
        decode_image(tmp_path / "a.png", image_size=8, num_channels=3)
    with pytest.raises(DataError, match=r"cannot read the image .*a\.png"):
        images.common_num_channels([tmp_path / "a.png"])


# ---------------------------------------------------------------- folders


def grey(size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.fromarray(pixels_of(*size))


def colour(size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.fromarray(pixels_of(*size, 3))


def all_greys() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


def sixteen_bit() -> Image.Image:
    return Image.fromarray(pixels_of(16, 16).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("images", "num_channels"),
    [
        ({"a/0.png": grey(), "b/0.png": grey((8, 20))}, 1),
        ({"a/0.png": grey().convert("1"), "b/0.png": sixteen_bit()}, 1),
        ({"a/0.png": grey(), "b/0.png": grey().convert("LA")}, 1),
        ({"a/0.gif": all_greys(), "b/0.bmp": all_greys(), "b/1.jpg": all_greys(), "b/2.tiff": all_greys()}, 1),
        ({"a/0.png": grey(), "b/0.png": colour()}, 3),
        ({"a/0.jpg": colour(), "b/0.webp": colour()}, 3),
        ({"a/0.png": grey(), "b/0.png": colour().convert("RGBA")}, 3),
        ({"a/0.png": grey(), "b/0.png": colour().convert("P")}, 3),
    ],
    ids=["grey", "1 and 16 bits", "grey and alpha", "formats", "mixed", "colour", "RGBA", "palette"],
)
def test_the_channels_are_those_of_the_images(
    images: dict[str, Image.Image], num_channels: int, tmp_path: Path
) -> None:
    write_folder(tmp_path, images)
    loaded = load_folder(tmp_path)
    assert loaded.num_image_channels == num_channels
    assert loaded.train.images.shape == (len(images), num_channels, 16, 16)
    assert loaded.test.images.shape == (2, num_channels, 16, 16)
    assert len(loaded.mean) == len(loaded.std) == num_channels
    for asked in (1, 3):
        assert load_folder(tmp_path, num_channels=asked).num_image_channels == asked


def test_a_folder_of_many_kinds_is_loaded(tmp_path: Path) -> None:
    images = {
        "a/grey.png": grey((9, 30)),
        "a/colour.jpg": colour((30, 9)),
        "a/palette.gif": colour().convert("P"),
        "b/alpha.png": colour().convert("RGBA"),
        "b/colour.BMP": colour((1, 1)),
        "b/lossy.webp": colour((64, 64)),
        "b/sixteen.png": sixteen_bit(),
    }
    write_folder(tmp_path, images)
    loaded = load_folder(tmp_path)
    assert loaded.train.images.shape == (7, 3, 16, 16)
    assert loaded.train.images.dtype == torch.uint8
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]
    # in the order of the names
    names = ["a/colour.jpg", "a/grey.png", "a/palette.gif", "b/alpha.png", "b/colour.BMP", "b/lossy.webp"]
    for index, name in enumerate([*names, "b/sixteen.png"]):
        expected = decode_image(tmp_path / "train" / name, image_size=16, num_channels=3)
        np.testing.assert_array_equal(loaded.train.images[index].numpy(), expected)


def test_the_classes_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{name}/0.png": grey() for name in ("b", "10", "a", "9", "B", "ä")})
    loaded = load_folder(tmp_path)
    assert loaded.classes == ("10", "9", "B", "a", "b", "ä")
    assert loaded.train.labels.tolist() == list(range(6))


def test_a_class_without_test_images_is_kept(image_folder: Path) -> None:
    shutil.copytree(image_folder / "train" / "dark", image_folder / "train" / "grey")
    loaded = load_folder(image_folder)
    assert loaded.classes == ("dark", "grey", "light")
    assert set(loaded.test.labels.tolist()) == {0, 2}


def test_val_stands_for_test_where_there_is_none(image_folder: Path) -> None:
    expected = load_folder(image_folder)
    (image_folder / "test").rename(image_folder / "val")
    loaded = load_folder(image_folder)
    assert torch.equal(loaded.test.images, expected.test.images)
    # with both, test is the test set
    (image_folder / "test").mkdir()
    shutil.copytree(image_folder / "val" / "dark", image_folder / "test" / "dark")
    assert len(load_folder(image_folder).test) == 4


def test_what_is_hidden_is_no_image(image_folder: Path) -> None:
    expected = load_folder(image_folder)
    for name in (".DS_Store", "._00.png", "Thumbs.db", "desktop.ini"):
        (image_folder / "train" / "dark" / name).write_bytes(b"no image")
    (image_folder / "train" / "dark" / "folder").mkdir()
    (image_folder / "train" / ".git").mkdir()
    (image_folder / "train" / "readme.txt").write_text("no class")
    loaded = load_folder(image_folder)
    assert loaded.classes == expected.classes
    assert torch.equal(loaded.train.images, expected.train.images)


def test_mean_and_deviation_are_those_of_the_training_images(image_folder: Path) -> None:
    loaded = load_folder(image_folder, num_train=10)
    pixels = loaded.train.images.numpy().astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1) / 255
    np.testing.assert_allclose(loaded.mean, pixels.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(loaded.std, pixels.std(axis=1), atol=1e-4)


def test_images_of_one_colour_have_a_deviation(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/0.png": Image.new("L", (16, 16), 9), "b/0.png": Image.new("L", (16, 16), 9)})
    loaded = load_folder(tmp_path)
    assert loaded.std[0] > 0
    assert Pipeline(folder_config(tmp_path), loaded.mean, loaded.std).normalize(loaded.train.images).isfinite().all()


def test_num_train_and_num_test_keep_the_classes_balanced(image_folder: Path) -> None:
    loaded = load_folder(image_folder, num_train=10, num_test=4)
    assert Counter(loaded.train.labels.tolist()) == {0: 5, 1: 5}
    assert Counter(loaded.test.labels.tolist()) == {0: 2, 1: 2}


def test_what_a_subset_leaves_out_is_not_read(image_folder: Path) -> None:
    """Not even its header, so that 100 of 50,000 images are a matter of a moment."""
    first = load_folder(image_folder, num_train=10)
    used = {image.numpy().tobytes() for image in first.train.images}
    for path in sorted((image_folder / "train").glob("*/*")):
        if decode_image(path, image_size=16, num_channels=3).tobytes() not in used:
            path.write_bytes(b"no image")
    assert same(load_folder(image_folder, num_train=10), first)


# ---------------------------------------------------------------- the cache


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images that were decoded, in any order; to be cleared by the test."""
    paths: list[Path] = []
    original = images.decode_image

    def watched(path: Path, **options: Any) -> np.ndarray:
        paths.append(path)
        return original(path, **options)

    monkeypatch.setattr(images, "decode_image", watched)
    return paths


def same(first: Dataset, second: Dataset) -> bool:
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in ((first.train, second.train), (first.test, second.test))
    )


def cache_files() -> list[Path]:
    return sorted(path for path in cache_folder().rglob("*") if path.is_file())


def test_the_second_load_decodes_nothing(image_folder: Path, decoded: list[Path]) -> None:
    first = load_folder(image_folder)
    assert len(decoded) == len(set(decoded)) == 32
    decoded.clear()
    second = load_folder(image_folder)
    assert decoded == []
    assert same(first, second)
    assert (second.mean, second.std, second.classes) == (first.mean, first.std, first.classes)
    assert len(cache_files()) == 2


def test_the_cache_is_where_the_environment_says(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("CPNAS_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cpnas"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "cpnas"
    load_folder(image_folder)
    assert len(list((tmp_path / "home" / ".cache" / "cpnas").iterdir())) == 2


def test_a_changed_image_of_the_same_size_and_time_is_decoded_again(image_folder: Path, decoded: list[Path]) -> None:
    path = image_folder / "train" / "dark" / "03.bmp"
    (image_folder / "train" / "dark" / "03.png").unlink()
    Image.new("RGB", (20, 16), (60, 60, 60)).save(path)
    first, before = load_folder(image_folder), path.stat()
    decoded.clear()
    Image.new("RGB", (20, 16), (61, 60, 60)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    second = load_folder(image_folder)
    assert path in decoded
    differs = (first.train.images != second.train.images).flatten(1).any(dim=1)
    assert differs.nonzero().tolist() == [[3]]
    assert (second.train.images[3, 0] == 61).all()


def test_what_is_asked_for_is_part_of_the_key(image_folder: Path, decoded: list[Path]) -> None:
    seen = []
    for values in ({}, {"image_size": 8}, {"num_channels": 1}, {"num_train": 10}):
        decoded.clear()
        loaded = load_folder(image_folder, **values)
        assert decoded, values
        assert loaded.train.images.shape[1:] == (
            values.get("num_channels", 3),
            values.get("image_size", 16),
            values.get("image_size", 16),
        )
        seen.append(loaded)
    decoded.clear()
    for values, loaded in zip(({}, {"image_size": 8}, {"num_channels": 1}, {"num_train": 10}), seen, strict=True):
        assert same(load_folder(image_folder, **values), loaded)
    assert decoded == []


def test_another_pillow_decodes_again(image_folder: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may give other pixels of the same bytes."""
    load_folder(image_folder)
    decoded.clear()
    monkeypatch.setattr("PIL.__version__", "0.0")
    load_folder(image_folder)
    assert len(decoded) == 32
    decoded.clear()
    load_folder(image_folder)
    assert decoded == []


def test_an_image_in_another_class_has_its_new_label(image_folder: Path) -> None:
    load_folder(image_folder)
    (image_folder / "train" / "dark" / "11.png").rename(image_folder / "train" / "light" / "dark.png")
    loaded = load_folder(image_folder)
    assert Counter(loaded.train.labels.tolist()) == {0: 11, 1: 13}
    expected = decode_image(image_folder / "train" / "light" / "dark.png", image_size=16, num_channels=3)
    np.testing.assert_array_equal(loaded.train.images[-1].numpy(), expected)


def spoil(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "a bit of the pixels":
            content[-7] ^= 16
        case "a bit of the header":
            content[12] ^= 16
        case "empty":
            content.clear()
        case "text":
            content = bytearray(b"no cache")
        case _:
            del content[round(float(how) * len(content)) :]
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["0.01", "0.5", "0.999", "a bit of the pixels", "a bit of the header", "empty", "text"])
def test_a_damaged_cache_is_made_again(how: str, image_folder: Path, decoded: list[Path]) -> None:
    first = copy.deepcopy(load_folder(image_folder))  # which is mapped from the file that is spoiled here
    for path in cache_files():
        spoil(path, how)
    decoded.clear()
    assert same(load_folder(image_folder), first)
    assert len(decoded) == 32
    decoded.clear()
    assert same(load_folder(image_folder), first)
    assert decoded == []


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_a_crash_while_the_cache_is_written_leaves_none(
    error: BaseException, image_folder: Path, decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("cpnas_cli.storage.mapped.checksum", failing(error))  # when all is filled
        with pytest.raises(type(error)):
            load_folder(image_folder)
    assert cache_files() == []
    decoded.clear()
    assert len(load_folder(image_folder).train) == 24
    assert len(decoded) == 32


@pytest.mark.parametrize("kind", ["no folder", "full disk"])
def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    kind: str, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are there, only the room to keep them decoded is not."""
    expected = load_folder(image_folder)
    if kind == "no folder":
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "file"))
    else:
        monkeypatch.setenv("CPNAS_CACHE_DIR", str(tmp_path / "full"))
        full = failing(OSError(28, "No space left on device"))
        monkeypatch.setattr("cpnas_cli.storage.mapped.os.posix_fallocate", full)
    assert same(load_folder(image_folder), expected)
    assert not list((tmp_path / "full").glob("*"))


# ---------------------------------------------------------------- subsets and splits


@FEW
@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=6), data_=st.data())
def test_a_balanced_subset_keeps_the_shares(counts: list[int], data_: st.DataObject) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    size = data_.draw(st.integers(1, len(labels)))
    labels = np.random.default_rng(size).permutation(labels).tolist()
    chosen = balanced_subset(labels, size)
    assert len(chosen) == len(set(chosen)) == size
    assert chosen == sorted(chosen)
    assert chosen == balanced_subset(labels, size)
    kept = Counter(labels[index] for index in chosen)
    for label, count in enumerate(counts):
        assert abs(kept[label] - size * count / len(labels)) < 2


def test_a_balanced_subset_of_equal_classes_has_equal_classes() -> None:
    labels = [label for _ in range(50) for label in range(10)]
    for size in (10, 100, 250):
        assert set(Counter(labels[i] for i in balanced_subset(labels, size)).values()) == {size // 10}


def test_a_subset_of_all_is_all() -> None:
    labels = [0, 1, 1, 0]
    for size in (None, 4, 5, 1000):
        assert balanced_subset(labels, size) == [0, 1, 2, 3]


def test_a_subset_is_drawn_and_not_the_first_images() -> None:
    chosen = balanced_subset([0] * 100, 10)
    assert chosen != list(range(10))
    assert max(chosen) > 50


def test_the_subset_depends_on_no_seed() -> None:
    """The same images for every run: a configuration with another seed loads the same."""
    config = DataConfig(num_train=50, num_test=20)
    torch.manual_seed(1)
    first = load_dataset(config)
    torch.manual_seed(2)
    assert same(first, load_dataset(config))


def numbered(count: int, *, channels: int = 1, size: int = 4) -> ImageSet:
    """Images whose first two pixels say which they are, the label too."""
    images = torch.from_numpy(pixels_of(count, channels, size, size))
    images[:, :, 0, 0] = (torch.arange(count) % 256).to(torch.uint8)[:, None]
    images[:, :, 0, 1] = (torch.arange(count) // 256).to(torch.uint8)[:, None]
    return ImageSet(images, torch.arange(count))


@pytest.mark.parametrize(("count", "fraction", "num_validation"), [(101, 0.5, 50), (40, 0.25, 10), (4, 0.5, 2)])
def test_the_parts_of_a_search_are_disjoint_and_complete(count: int, fraction: float, num_validation: int) -> None:
    images = numbered(count)
    splits = []
    for seed in (0, 1, 0):
        training, validation = split_for_search(images, validation_fraction=fraction, seed=seed)
        assert len(validation) == num_validation
        assert sorted(training.labels.tolist() + validation.labels.tolist()) == list(range(count))
        for part in (training, validation):  # every image with its label
            assert torch.equal(part.images, images.images[part.labels])
        splits.append(validation.labels.tolist())
    assert splits[0] == splits[2]
    assert count == 4 or splits[0] != splits[1]
    assert count == 4 or splits[0] != sorted(splits[0])[: len(splits[0])] or max(splits[0]) >= num_validation


@pytest.mark.parametrize(("count", "fraction"), [(3, 0.5), (10, 0.05), (10, 0.95), (2, 0.5)])
def test_too_few_images_to_split(count: int, fraction: float) -> None:
    with pytest.raises(DataError, match=f"{count} training images are too few"):
        split_for_search(numbered(count), validation_fraction=fraction, seed=0)


# ---------------------------------------------------------------- digits


def test_digits_are_all_there_once() -> None:
    loaded = load_dataset(DataConfig())
    bunch: Any = load_digits()
    assert len(loaded.train) + len(loaded.test) == 1797
    assert loaded.classes == tuple("0123456789")
    assert loaded.train.images.shape[1:] == (1, 8, 8)
    counts = Counter(bunch.target.tolist())
    in_test = Counter(loaded.test.labels.tolist())
    assert in_test == {label: -(-count // 5) for label, count in counts.items()}
    expected = sorted(
        (int(label), (image * 255 / 16).round().astype(int).tobytes())
        for image, label in zip(bunch.images, bunch.target, strict=True)
    )
    found = sorted(
        (int(label), image[0].numpy().astype(int).tobytes())
        for part in (loaded.train, loaded.test)
        for image, label in zip(part.images, part.labels, strict=True)
    )
    assert found == expected  # as multisets, so no image is in both parts


def test_no_test_image_is_in_a_search() -> None:
    loaded = load_dataset(DataConfig())

    def contents(part: ImageSet) -> set[bytes]:
        return {image.numpy().tobytes() for image in part.images}

    training, validation = split_for_search(loaded.train, validation_fraction=0.5, seed=0)
    assert not contents(loaded.test) & (contents(training) | contents(validation))
    assert not contents(training) & contents(validation)


@pytest.mark.parametrize("num_channels", [None, 1, 3])
def test_digits_in_another_size_and_in_colour(num_channels: int | None) -> None:
    values = {"image_size": 16, "num_channels": num_channels, "num_train": 20, "num_test": 10}
    config = DataConfig.model_validate(values)
    loaded = load_dataset(config)
    assert loaded.train.images.shape == (20, num_channels or 1, 16, 16)
    assert loaded.train.images.dtype == torch.uint8
    assert loaded.test.images.shape == (10, num_channels or 1, 16, 16)
    assert (loaded.train.images == loaded.train.images[:, :1]).all()


# ---------------------------------------------------------------- data sets of torchvision


def write_cifar10(folder: Path, *, per_file: int = 4) -> np.ndarray:
    """A CIFAR-10 of a few random images in the published format; returns the training images."""
    import hashlib
    import pickle

    from torchvision import datasets

    base = folder / datasets.CIFAR10.base_folder
    base.mkdir(parents=True)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for index, name in enumerate(names):
        rows = pixels_of(per_file, 3072, seed=index)
        (base / name).write_bytes(pickle.dumps({"data": rows, "labels": [index % 10] * per_file}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))
    sums = {name: hashlib.md5((base / name).read_bytes()).hexdigest() for name in [*names, "batches.meta"]}
    (folder / "sums.json").write_text(json.dumps(sums))
    return np.concatenate([pixels_of(per_file, 3072, seed=index).reshape(-1, 3, 32, 32) for index in range(5)])


def test_cifar10_as_torchvision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    expected = write_cifar10(tmp_path)
    sums = json.loads((tmp_path / "sums.json").read_text())
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, sums[name]] for name in batches])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    values = {"name": "cifar10", "dir": str(tmp_path), "image_size": 32}
    loaded = load_dataset(DataConfig.model_validate(values))
    np.testing.assert_array_equal(loaded.train.images.numpy(), expected)
    assert loaded.train.labels.tolist() == [label for label in range(5) for _ in range(4)]
    assert loaded.test.labels.tolist() == [5] * 4
    assert len(loaded.classes) == 10
    in_grey = load_dataset(DataConfig.model_validate({**values, "num_channels": 1}))
    luma = np.tensordot(expected.astype(np.float64), [0.299, 0.587, 0.114], axes=(1, 0))
    assert np.abs(in_grey.train.images[:, 0].numpy() - luma).max() <= 1


# ---------------------------------------------------------------- batches


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def pipeline(*, channels: int = 3, **values: Any) -> Pipeline:
    return Pipeline(DataConfig.model_validate({"image_size": 8, **values}), MEAN[:channels], STD[:channels])


def normalized(images: np.ndarray) -> np.ndarray:
    channels = images.shape[1]
    mean, std = (np.array(value[:channels]).reshape(1, -1, 1, 1) for value in (MEAN, STD))
    return (images / 255.0 - mean) / std


@pytest.mark.parametrize("channels", [1, 3])
def test_normalization(channels: int) -> None:
    images = pixels_of(5, channels, 8, 8)
    result = pipeline(channels=channels).normalize(torch.from_numpy(images))
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), normalized(images), atol=1e-5)


def augmented(image_CHW: np.ndarray, config: DataConfig, noise: list[int]) -> np.ndarray:
    """One image: pad with zeros, cut out the crop, mirror it, blank the square around a centre."""
    row, column, mirrored, centre_row, centre_column = noise
    size, padding = config.image_size, config.crop_padding
    padded = np.zeros((image_CHW.shape[0], size + 2 * padding, size + 2 * padding), np.float32)
    padded[:, padding : padding + size, padding : padding + size] = image_CHW
    result = padded[:, row : row + size, column : column + size].copy()
    if config.flip and mirrored:
        result = result[:, :, ::-1].copy()
    for r in range(size):
        for c in range(size):
            top, left = centre_row - config.cutout // 2, centre_column - config.cutout // 2
            if top <= r < top + config.cutout and left <= c < left + config.cutout:
                result[:, r, c] = 0
    return result


AUGMENTATIONS = [
    {},
    {"flip": True},
    {"crop_padding": 2},
    {"cutout": 3},
    {"cutout": 4},
    {"crop_padding": 1, "flip": True, "cutout": 16},
    {"crop_padding": 3, "flip": True, "cutout": 2},
    {"crop_padding": 9, "flip": True},
]


@pytest.mark.parametrize("values", AUGMENTATIONS, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_the_loop_over_images(values: dict[str, Any], channels: int) -> None:
    under_test = pipeline(channels=channels, **values)
    config = under_test.config
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(40, channels, 8, 8)).astype(np.float32))
    crop = 2 * config.crop_padding + 1
    generator = np.random.default_rng(1)
    noise = np.stack([generator.integers(0, high, 40) for high in (crop, crop, 2, 8, 8)], axis=1)
    result = under_test.augment(images, torch.from_numpy(noise)).numpy()
    for index in range(40):
        expected = augmented(images[index].numpy(), config, noise[index].tolist())
        np.testing.assert_array_equal(result[index], expected)


@pytest.mark.parametrize("values", AUGMENTATIONS, ids=str)
def test_a_training_batch_is_a_variation_that_the_loop_can_make(values: dict[str, Any]) -> None:
    """Through the public way: of every image, some crop, mirror and hole gives exactly what came."""
    under_test = pipeline(channels=1, **values)
    config, images = under_test.config, numbered(6, size=8)
    plain = normalized(images.images.numpy()).astype(np.float32)
    crop = range(2 * config.crop_padding + 1)
    without_cutout = config.model_copy(update={"cutout": 0})
    ((x, labels),) = under_test.training_batches(images, batch_size=6, seed=0, purpose="p", epoch=0)
    for came, label in zip(x.numpy(), labels.tolist(), strict=True):
        found = 0
        for row in crop:
            for column in crop:
                for mirrored in (0, 1) if config.flip else (0,):
                    whole = augmented(plain[label], without_cutout, [row, column, mirrored, 0, 0])
                    same_pixels = np.isclose(came, whole, atol=1e-5)
                    hole = ~same_pixels.all(axis=0)
                    rows, columns = np.nonzero(hole)
                    small = not len(rows) or max(np.ptp(rows), np.ptp(columns)) < config.cutout
                    found += small and not came[:, hole].any()
        assert found


def batches_of(under_test: Pipeline, images: ImageSet, **options: Any) -> list[tuple[Tensor, Tensor]]:
    values = {"batch_size": 8, "seed": 0, "purpose": "p", "epoch": 0, **options}
    return list(under_test.training_batches(images, **values))


def test_batches_depend_on_seed_purpose_and_epoch_only() -> None:
    under_test, images = pipeline(channels=1, crop_padding=2, flip=True, cutout=3), numbered(40, size=8)
    first = batches_of(under_test, images)
    torch.manual_seed(5)
    again = batches_of(under_test, images)
    assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(first, again, strict=True))
    for other in ({"seed": 1}, {"purpose": "q"}, {"epoch": 1}):
        different = batches_of(under_test, images, **other)
        assert torch.cat([b for _, b in first]).tolist() != torch.cat([b for _, b in different]).tolist()
        by_label = [
            dict(zip(torch.cat([b for _, b in bs]).tolist(), torch.cat([a for a, _ in bs]), strict=True))
            for bs in (first, different)
        ]
        assert any(not torch.equal(by_label[0][k], by_label[1][k]) for k in by_label[0] if k in by_label[1])


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(40, 8, [8] * 5), (43, 8, [8] * 5), (5, 8, [5]), (1, 8, [1])]
)
def test_every_image_at_most_once_and_no_incomplete_batch(count: int, batch_size: int, sizes: list[int]) -> None:
    under_test, images = pipeline(channels=1), numbered(count, size=8)
    batches = batches_of(under_test, images, batch_size=batch_size)
    assert [len(x) for x, _ in batches] == sizes == [len(labels) for _, labels in batches]
    labels = torch.cat([labels for _, labels in batches]).tolist()
    assert len(set(labels)) == len(labels)
    plain = normalized(images.images.numpy())
    np.testing.assert_allclose(torch.cat([x for x, _ in batches]).numpy(), plain[labels], atol=1e-5)


def test_an_image_left_out_of_one_epoch_is_in_another() -> None:
    under_test, images = pipeline(channels=1), numbered(11, size=8)
    seen = {
        label
        for epoch in range(8)
        for _, labels in batches_of(under_test, images, batch_size=8, epoch=epoch)
        for label in labels.tolist()
    }
    assert seen == set(range(11))


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(40, 16, [16, 16, 8]), (1, 16, [1]), (5, 1, [1] * 5)])
def test_evaluation_covers_all_in_order_as_they_are(count: int, batch_size: int, sizes: list[int]) -> None:
    under_test, images = pipeline(channels=1, crop_padding=2, flip=True, cutout=4), numbered(count, size=8)
    batches = list(under_test.evaluation_batches(images, batch_size=batch_size))
    assert [len(x) for x, _ in batches] == sizes
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(count))
    result = torch.cat([x for x, _ in batches]).numpy()
    np.testing.assert_allclose(result, normalized(images.images.numpy()), atol=1e-5)


def test_crops_mirrors_and_holes_are_uniform() -> None:
    """5 * 5 * 2 * 8 * 8 variations; every value of each about equally often, in 4,000 images."""
    under_test = pipeline(channels=1, crop_padding=2, flip=True, cutout=1)
    noise = draw_augmentation(under_test.config, 4000, torch.Generator().manual_seed(0))
    for column, high in enumerate((5, 5, 2, 8, 8)):
        counts = np.bincount(noise[:, column].numpy(), minlength=high)
        assert len(counts) == high
        expected = 4000 / high
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_the_images_are_left_as_they_were() -> None:
    under_test, images = pipeline(channels=1, crop_padding=2, flip=True, cutout=4), numbered(10, size=8)
    before = images.images.clone()
    batches_of(under_test, images)
    list(under_test.evaluation_batches(images, batch_size=4))
    assert torch.equal(images.images, before)


# ---------------------------------------------------------------- real data


@pytest.mark.cifar10
@pytest.mark.skipif("CPNAS_CIFAR10_DIR" not in os.environ, reason="CPNAS_CIFAR10_DIR names no folder")
def test_cifar10_in_folders() -> None:
    """A small balanced part of the real images: train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg."""
    loaded = load_folder(Path(os.environ["CPNAS_CIFAR10_DIR"]), image_size=32, num_train=100, num_test=50)
    assert loaded.classes == (
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    )
    assert loaded.train.images.shape == (100, 3, 32, 32)
    assert Counter(loaded.train.labels.tolist()) == dict.fromkeys(range(10), 10)
    assert Counter(loaded.test.labels.tolist()) == dict.fromkeys(range(10), 5)
    assert np.abs(np.array(loaded.mean) - [0.49, 0.48, 0.45]).max() < 0.05
    assert np.abs(np.array(loaded.std) - [0.25, 0.24, 0.26]).max() < 0.04


@pytest.fixture(autouse=True)
def _no_half_files(tmp_path: Path) -> Iterator[None]:
    yield
    assert list(tmp_path.rglob("*.tmp")) == []
