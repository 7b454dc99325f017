"""Classifies image files with a packed model: many in one call, in bounded memory, without torch.

Finds the files, decodes them in threads, and makes answers of what the network says; the network runs in `engine`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpnas_cli.data.decoding import decode_image
from cpnas_cli.data.listing import Skipped, files_below, split_files
from cpnas_cli.deploy.packed_file import PACKED_NAME, PackedModel
from cpnas_cli.errors import CheckpointError, DataError, shell_word

if TYPE_CHECKING:
    from cpnas_cli.deploy.engine import Engine  # its libraries are large; a wrong path needs none of them

PREDICTIONS_SCHEMA = "cpnas.predictions/1"

_CHUNK_IMAGES = 256
_CHUNK_BYTES = 1 << 25


@dataclass(frozen=True)
class Prediction:
    """The classes of an image with their probabilities, the most probable first."""

    image: Path
    ranking: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Failure:
    """An image that has no prediction, and why; one line."""

    image: Path
    error: str


Answer = Prediction | Failure


def find_packed(path: Path) -> Path:
    """The packed model that is meant: the file itself, or the one in the folder of a run.

    Raises:
      CheckpointError: the folder holds none.
    """
    if not os.path.isdir(path):
        return path
    file = path / PACKED_NAME
    if not file.exists():
        raise CheckpointError(
            f"{path} holds no {PACKED_NAME}; `cpnas export {shell_word(path)}` makes it of a trained run"
        )
    return file


@dataclass(frozen=True)
class ImageList:
    """The files to classify, and what is skipped of the folders that were named."""

    images: tuple[Path, ...]
    skipped: tuple[Skipped, ...] = ()


def list_images(paths: Sequence[Path]) -> ImageList:
    """The files that are named and those in the folders that are named, however deep, in the order of their names.

    What cannot be an image is kept if it was named, so that it is reported: also a folder that holds no images.

    Raises:
      DataError: there are only folders without images.
    """
    # os.path: false for a name that is too long or may not be looked at, where Path raises
    found = [split_files(files_below(path)) if os.path.isdir(path) else ([path], []) for path in paths]
    skipped = tuple(each for _, more in found for each in more)
    if not any(images for images, _ in found):
        raise DataError(f"no images in {', '.join(map(str, paths))}; name image files, or folders that hold some")
    images = tuple(image for path, (own, _) in zip(paths, found, strict=True) for image in own or [path])
    return ImageList(images, skipped)


def predict_images(engine: "Engine", images: Sequence[Path]) -> Iterator[Answer]:
    """What the network says of every image, in their order; one that cannot be read does not stop the others.

    Threads decode the images, as many as the engine has; while it runs a chunk of them, they decode the next.
    """
    size = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // _image_bytes(engine.model)))
    decode = partial(_decode, model=engine.model)
    workers = ThreadPoolExecutor(engine.runner.num_threads)
    chunks = (workers.map(decode, images[start : start + size]) for start in range(0, len(images), size))
    try:
        for decoded, _ in pairwise(chain(chunks, [()])):  # takes, and so begins, the next chunk too
            yield from _classify(engine, list(decoded))
    finally:
        workers.shutdown(cancel_futures=True)


def predictions_document(
    model: Path, answers: Sequence[Answer], *, top: int | None = None, skipped: Sequence[Skipped] = ()
) -> dict[str, Any]:
    """`cpnas.predictions/1`.

    Args:
      skipped: files of folders that are no images.
      top: how many classes of each image have their probability in it, the most probable first; None: all.
    """
    return {
        "schema": PREDICTIONS_SCHEMA,
        "model": str(model),
        "predictions": [_entry(answer, top) for answer in answers if isinstance(answer, Prediction)],
        "failed": [
            {"image": str(answer.image), "error": answer.error} for answer in answers if isinstance(answer, Failure)
        ],
        "skipped": [{"file": str(each.path), "reason": each.reason} for each in skipped],
    }


def _entry(prediction: Prediction, top: int | None) -> Mapping[str, Any]:
    name, probability = prediction.ranking[0]
    return {
        "image": str(prediction.image),
        "class": name,
        "probability": probability,
        "probabilities": dict(prediction.ranking[:top]),
    }


def _image_bytes(model: PackedModel) -> int:
    return model.num_image_channels * model.image_size**2


def _decode(path: Path, *, model: PackedModel) -> tuple[Path, np.ndarray] | Failure:
    try:
        path.open("rb").close()  # for the system's own words
        return path, decode_image(path, image_size=model.image_size, num_channels=model.num_image_channels)
    except IsADirectoryError:
        return Failure(path, f"no images in {path}, or it cannot be looked into")
    except OSError as error:
        return Failure(path, f"cannot read the image {path}: {error.strerror or error}")
    except DataError as error:
        return Failure(path, str(error))


def _classify(engine: "Engine", decoded: Sequence[tuple[Path, np.ndarray] | Failure]) -> Iterator[Answer]:
    pixels = [each[1] for each in decoded if not isinstance(each, Failure)]
    with np.errstate(invalid="ignore"):  # told below, with the image's name
        rows = iter(engine.probabilities(np.stack(pixels)) if pixels else ())
    for each in decoded:
        if isinstance(each, Failure):
            yield each
            continue
        row = next(rows)
        if np.isfinite(row).all():
            order = np.argsort(-row, kind="stable")
            yield Prediction(each[0], tuple((engine.model.classes[index], float(row[index])) for index in order))
        else:
            yield Failure(each[0], f"the network's scores of {each[0]} are not finite; train it again and export it")
