"""A contact sheet: a row of small images for every class, in one picture."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cpnas_cli.data.class_folders import ClassFolders
from cpnas_cli.data.decoding import small_image
from cpnas_cli.errors import DataError
from cpnas_cli.storage.documents import replacing

_PER_CLASS = 8
_MOST_CLASSES = 100
_SIDE = 96  # pixels of a small image
_GAP = 4
_TITLE = 18
_MISSING = (200, 60, 60)


def save_contact_sheet(found: ClassFolders, path: Path) -> int:
    """Write a PNG file: of each class up to 8 training images, evenly spaced over its files; returns how many classes.

    Only the first 100 classes are drawn; an image that cannot be read is a red square.

    Raises:
      DataError: there is nothing to draw. RunError: it cannot be written.
    """
    classes = found.classes[:_MOST_CLASSES]
    if not classes:
        raise DataError(f"{found.root} has no classes to draw; `cpnas data` says what is wrong")
    row = _TITLE + _SIDE + _GAP
    sheet = Image.new("RGB", (_GAP + _PER_CLASS * (_SIDE + _GAP), _GAP + len(classes) * row), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    by_label: dict[int, list[Path]] = {label: [] for label in range(len(found.classes))}
    for file, label in found.train:
        by_label[label].append(file)
    for label, name in enumerate(classes):
        top = _GAP + label * row
        draw.text((_GAP, top), f"{_drawable(name)}  ({len(by_label[label]):,} train)", fill="black", font=font)
        for column, file in enumerate(_evenly(by_label[label])):
            sheet.paste(_small(file), (_GAP + column * (_SIDE + _GAP), top + _TITLE))
    with replacing(path, advice="choose another --contact-sheet") as temporary:
        sheet.save(temporary, format="PNG")
    return len(classes)


def _evenly(files: Sequence[Path]) -> list[Path]:
    number = min(_PER_CLASS, len(files))
    return [files[index * len(files) // number] for index in range(number)]


def _drawable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _small(file: Path) -> Image.Image:
    """The whole image, letterboxed on grey."""
    canvas = Image.new("RGB", (_SIDE, _SIDE), (128, 128, 128))
    image = small_image(file, _SIDE)
    if image is None:
        return Image.new("RGB", (_SIDE, _SIDE), _MISSING)
    image.thumbnail((_SIDE, _SIDE))
    canvas.paste(image, ((_SIDE - image.width) // 2, (_SIDE - image.height) // 2))
    return canvas
