"""What a trained network says of its test images: per class, what is taken for what, and the mistakes it is surest of.

The network runs for this; who makes the page decides whether it may (`are_at_hand`).
"""

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from PIL import Image

from cpnas_cli.data.decoding import small_image
from cpnas_cli.registry import DATASETS, registered
from cpnas_cli.reports.page import words
from cpnas_cli.reports.page.blocks import (
    Block,
    Cell,
    Column,
    Details,
    Grid,
    Paragraph,
    Photo,
    Photos,
    Shade,
    Table,
    Tile,
    Tiles,
)
from cpnas_cli.reports.page.reading import Blocks, document_of
from cpnas_cli.runs.folder import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

MOST_TEST_IMAGES, MOST_TRAIN_IMAGES = 2_000, 20_000
"""Up to here the network is run without being asked for: some seconds."""

MOST_CLASSES = 30
"""That a matrix is shown for; of more the largest confusions alone."""

MOST_NAMED, MOST_LETTERS = 12, 7
"""Of columns that have the names of their classes, not numbers."""

_SIDE = 160  # pixels of a photo in the page
_NUM_CONFUSIONS = 20


def are_at_hand(run: RunFolder) -> bool:
    """Whether the images of a finished training are there, without a download, and few."""
    result, seen = document_of(run, RunFolder.RESULT), document_of(run, RunFolder.DATASET)
    if result is None or seen is None or not run.file(RunFolder.MODEL).exists():
        return False
    data = run.config().data
    if registered(DATASETS, data.name).downloads or (data.dir is not None and not Path(data.dir).is_dir()):
        return False
    return seen["num_test_images"] <= MOST_TEST_IMAGES and seen["num_train_images"] <= MOST_TRAIN_IMAGES


def how_to_see_them(run: RunFolder) -> Blocks | None:
    """What stands in place of the answers, for a training that has any."""
    if not run.file(RunFolder.MODEL).exists():
        return None
    return (
        Paragraph(
            "Confusion matrix and mistakes are not in this page: the network would have to be run on the test images. "
            "cpnas report --images does it; cpnas evaluate prints the same.",
            "soft",
        ),
    )


def answers_blocks(run: RunFolder) -> Blocks:
    """The evaluation of a training's network on its own test images.

    Raises:
      CpnasError: they are not there any more, or have other classes; or the network's file is damaged.
    """
    import torch

    from cpnas_cli.training.evaluation import evaluation_of

    document = evaluation_of(run.path, data_dir=None, device=torch.device("cpu")).document
    blocks: list[Block] = [_tiles(document)]
    recorded = document["recorded_accuracy_test"]
    if recorded is not None and abs(recorded - document["accuracy_test"]) > 0.5 / document["num_test_images"]:
        blocks.append(
            Paragraph(
                f"On the images as they are now {words.percent(document['accuracy_test'])} are right; when it was "
                f"trained it was {words.percent(recorded)}. The images have changed, or the device.",
                "warning",
            )
        )
    blocks.append(_per_class_table(document["per_class"]))
    if len(document["per_class"]) <= MOST_CLASSES:
        blocks.append(confusion_grid([row["class"] for row in document["per_class"]], document["confusion"]))
    table = _confusions_table([row["class"] for row in document["per_class"]], document["confusion"])
    if table.rows:
        blocks.append(Details("What is taken for what, the most frequent first", (table,)))
    blocks += _mistakes(run, document)
    return tuple(blocks)


def _tiles(document: Mapping[str, Any]) -> Tiles:
    calibration = document["calibration"]
    name = "Child" if document["network"] == "child" else "Parent"
    wrong, of = document["num_mistakes"], document["num_test_images"]
    return Tiles(
        (
            Tile(words.percent(document["accuracy_test"]), f"of the {name}'s answers are right"),
            Tile(words.number(wrong), "mistakes", f"of {words.counted(of, 'test image')}"),
            Tile(words.percent(document["macro"]["f1"]), "F1, mean of the classes"),
            Tile(
                words.percent(calibration["mean_confidence"]),
                "how sure it is, on average",
                f"off by {words.percent(calibration['expected_error'])} from how often it is right",
            ),
        )
    )


def _per_class_table(per_class: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("class"), Column("images", True), Column("taken for it", True), Column("precision", True),
        Column("recall", True), Column("F1", True),
    )  # fmt: skip
    rows = []
    for row in per_class:
        cells = [
            Cell(row["class"]),
            *(Cell(words.number(row[key]), row[key]) for key in ("num_images", "num_predicted")),
        ]
        cells += [Cell(words.percent(row[key], digits=1), row[key]) for key in ("precision", "recall", "f1")]
        rows.append(tuple(cells))
    caption = (
        "Each class. Precision: of the images taken for it, how many are it. Recall: of its images, how many are "
        "found. F1: the harmonic mean of both"
    )
    return Table(caption, columns, tuple(rows), label="Each class")


def confusion_grid(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Grid:
    """A row for each class, in it how many of its images are taken for each class; darker: a larger part of the row."""
    named = len(classes) <= MOST_NAMED and all(len(name) <= MOST_LETTERS for name in classes)
    rows = []
    for index, (name, counts) in enumerate(zip(classes, confusion, strict=True)):
        total = sum(counts)
        shades = tuple(
            Shade(
                str(count) if count else "·",
                math.ceil(10 * count / total) if count else 0,
                place == index,
                "" if count else "0",
            )
            for place, count in enumerate(counts)
        )
        rows.append((name if named else f"{name} ({index + 1})", shades))
    caption = "Confusion matrix: rows are what an image is, columns what it is taken for; the diagonal is right"
    columns = tuple(classes) if named else tuple(f"({index + 1})" for index in range(len(classes)))
    return Grid(caption, "is \\ taken for", columns, tuple(rows), label="Confusion matrix")


def _confusions_table(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> Table:
    found = [
        (count, true, predicted)
        for true, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    found.sort(key=lambda each: (-each[0], each[1], each[2]))
    rows = tuple(
        (Cell(classes[true]), Cell(classes[predicted]), Cell(str(count), count), _part(count, confusion[true]))
        for count, true, predicted in found[:_NUM_CONFUSIONS]
    )
    columns = (Column("class"), Column("taken for"), Column("images", True), Column("of the class", True))
    return Table("The most frequent confusions", columns, rows)


def _part(count: int, row: Sequence[int]) -> Cell:
    return Cell(words.percent(count / sum(row), digits=1), count / sum(row))


# ---------------------------------------------------------------- the mistakes, as images


def _mistakes(run: RunFolder, document: Mapping[str, Any]) -> Blocks:
    found = document["mistakes"]
    if not found:
        return (Paragraph("No mistake on the test images.", "good"),)
    seen = None if all(row["file"] is not None for row in found) else _test_images(run)
    photos = []
    for row in found:
        address = None if row["file"] is None else _photo_address(Path(row["file"]))
        pixels = address is None and seen is not None
        if pixels:
            address = _pixels_address(seen[row["index"]])  # type: ignore[index]
        where = f"image {row['index']}" if row["file"] is None else os.path.basename(row["file"])
        photos.append(
            Photo(
                address or "data:,",
                f"An image of {row['class']}, taken for {row['predicted']}",
                f"{row['class']}, taken for {row['predicted']}",
                f"{words.percent(row['probability'], digits=1)} sure; {where}",
                pixels,
            )
        )
    sentence = (
        f"The mistakes it is surest of: {len(found)} of {document['num_mistakes']:,}. Look for wrong labels here first."
    )
    return Paragraph(sentence), Photos(tuple(photos))


def _test_images(run: RunFolder) -> "Tensor":
    """uint8 (N, C, S, S), as the network takes them."""
    from cpnas_cli.data.dataset import load_dataset
    from cpnas_cli.training.trained_network import read_trained

    return load_dataset(read_trained(run).data_settings()).test.images


def _photo_address(file: Path) -> Markup | None:
    """The photo, small, without whatever else its file holds; None: it cannot be read any more."""
    image = small_image(file, _SIDE)
    if image is None:
        return None
    if max(image.size) <= 64:  # so few pixels are shown as they are
        return _address(image, "PNG")
    image.thumbnail((_SIDE, _SIDE))
    return _address(image, "JPEG", quality=82)


def _pixels_address(image_CSS: "Tensor") -> Markup:
    array = image_CSS.permute(1, 2, 0).numpy()
    return _address(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array), "PNG")


def _address(image: Image.Image, kind: str, **options: Any) -> Markup:
    """All of it is ours: no text that is shortened where it is long."""
    written = io.BytesIO()
    image.save(written, format=kind, **options)
    return Markup(f"data:image/{kind.lower()};base64,{base64.b64encode(written.getvalue()).decode()}")
