"""Classifies images with a packed model: any number in one call, in bounded memory, without torch.

Finds the files, decodes them in threads, and makes answers of what the network says; the network runs in `engine`.
"""

import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cpnas_cli.data.decoding import DAMAGED, decode_image, pixels_of, unreadable
from cpnas_cli.data.listing import Skipped, files_below
from cpnas_cli.deploy.packed_file import PACKED_NAME, PackedModel
from cpnas_cli.errors import CheckpointError, DataError, shell_word

if TYPE_CHECKING:
    from cpnas_cli.deploy.engine import Engine  # its libraries are large; a wrong path needs none of them

PREDICTION_SCHEMA = "cpnas.prediction/1"

# Of a chunk, which the network reads at once: so many at first for each thread, twice as many while chunks are soon
# done, and at most so many
_FIRST_IMAGES_PER_THREAD = 32
_CHUNK_IMAGES = 256
_CHUNK_BYTES = 1 << 25
_SOON_SECONDS = 0.5
# One after the other on one thread: to hand over every image by itself takes as long as decoding a small one
_GROUP_IMAGES = 32


@dataclass(frozen=True)
class Picture:
    """An image in memory.

    Attributes:
      position: among all the images of a call, from 0.
    """

    position: int
    pixels: Image.Image


@dataclass(frozen=True)
class Prediction:
    """The classes of an image with their probabilities, the most probable first.

    Attributes:
      image: its file; of one in memory its position.
    """

    image: Path | int
    ranking: tuple[tuple[str, float], ...]

    def is_unsure(self, threshold: float) -> bool:
        """Whether even the most probable class has less than this probability."""
        return self.ranking[0][1] < threshold


@dataclass(frozen=True)
class Failure:
    """An image that has no prediction, and why; one line."""

    image: Path | int
    error: str


Answer = Prediction | Failure
Decoded = tuple[Path | int, np.ndarray] | Failure
Source = Path | Picture


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


# ---------------------------------------------------------------- which images


def walk_images(paths: Sequence[Path], skipped: list[Skipped]) -> Iterator[Path]:
    """The files that are named and those in the folders that are named, however deep, in the order of their names.

    What cannot be an image is kept if it was named, so that it is reported: also a folder that holds no images. Of
    what is to come no more is in memory than the names in the folders on the way to the present one.

    Raises:
      DataError: there are only folders without images; at the call, not on the way.

    Args:
      skipped: filled on the way with what in the folders is no image.
    """
    # os.path: false for a name that is too long or may not be looked at, where Path raises
    if not any(not os.path.isdir(path) or any(isinstance(each, Path) for each in files_below(path)) for path in paths):
        raise DataError(f"no images in {', '.join(map(str, paths))}; name image files, or folders that hold some")
    return chain.from_iterable(_images_of(path, skipped) for path in paths)


def _images_of(path: Path, skipped: list[Skipped]) -> Iterator[Path]:
    found = _images_below(path, skipped) if os.path.isdir(path) else iter(())
    yield next(found, path)
    yield from found


def _images_below(folder: Path, skipped: list[Skipped]) -> Iterator[Path]:
    for each in files_below(folder):
        if isinstance(each, Skipped):
            skipped.append(each)
        else:
            yield each


# ---------------------------------------------------------------- what the network says


def predict_images(
    engine: "Engine", images: Iterable[Source], *, top: int | None = None
) -> Generator[Answer, None, None]:
    """What the network says of every image, in their order; one that cannot be read does not stop the others.

    Threads decode the images, as many as the engine has; while it runs a chunk of them, they decode the next. Images
    are taken as they are needed, and answers are not kept. Close it where it is left before its end.

    Args:
      top: how many classes of each image are ranked; None: all.
    """
    workers = ThreadPoolExecutor(engine.runner.num_threads)
    try:
        for decoded in decode_ahead(workers, images, engine.model, num_threads=engine.runner.num_threads):
            yield from _classify(engine, decoded, top)
    finally:
        workers.shutdown(cancel_futures=True)


def decode_ahead(
    workers: ThreadPoolExecutor, images: Iterable[Source], model: PackedModel, *, num_threads: int
) -> Iterator[list[Decoded]]:
    """Chunks of images as the model reads them; the next one is begun when one is taken."""
    most = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // _image_bytes(model)))
    size = min(most, _FIRST_IMAGES_PER_THREAD * num_threads)
    decode, remaining = partial(_decode_all, model=model), iter(images)

    def begun() -> Iterator[list[Decoded]]:
        group_size = max(1, min(_GROUP_IMAGES, size // (4 * num_threads)))
        return workers.map(decode, _parts(islice(remaining, size), group_size))

    ahead, before = begun(), time.perf_counter()
    while True:
        present, ahead = ahead, begun()
        if not (decoded := list(chain.from_iterable(present))):
            return
        yield decoded
        if time.perf_counter() - before < _SOON_SECONDS:
            size = min(most, 2 * size)
        before = time.perf_counter()


def _parts(images: Iterable[Source], size: int) -> Iterator[list[Source]]:
    remaining = iter(images)
    while part := list(islice(remaining, size)):
        yield part


def square_pixels(images: Sequence[Source], model: PackedModel) -> np.ndarray:
    """The pixels of the one image, uint8 (S, S, C), as the model reads them.

    Raises:
      DataError: it cannot be read, or there are more.
    """
    if len(images) != 1:
        raise DataError(f"expected one image, got {len(images):,}")
    (decoded,) = _decode_all(images, model=model)
    if isinstance(decoded, Failure):
        raise DataError(decoded.error)
    return np.ascontiguousarray(decoded[1].transpose(1, 2, 0))


def prediction_record(
    model: Path, answer: Answer | Skipped, *, top: int | None = None, threshold: float | None = None
) -> dict[str, Any]:
    """`cpnas.prediction/1`.

    Args:
      model: the packed file.
      top: how many classes have their probability in it, the most probable first; None: all that are ranked.
      threshold: the probability from which on the network is sure; None: it always is.
    """
    record: dict[str, Any] = {"schema": PREDICTION_SCHEMA, "model": str(model)}
    if isinstance(answer, Skipped):
        return record | {"image": str(answer.path), "skipped": answer.reason}
    record["image"] = str(answer.image)
    if isinstance(answer, Failure):
        return record | {"error": answer.error}
    name, probability = answer.ranking[0]
    return record | {
        "class": name,
        "probability": probability,
        "unsure": threshold is not None and answer.is_unsure(threshold),
        "probabilities": dict(answer.ranking[:top]),
    }


def _image_bytes(model: PackedModel) -> int:
    return model.num_image_channels * model.image_size**2


def _decode_all(images: Sequence[Source], *, model: PackedModel) -> list[Decoded]:
    return [_decode(each, model) if isinstance(each, Path) else _decode_picture(each, model) for each in images]


def _decode_picture(picture: Picture, model: PackedModel) -> Decoded:
    name = f"image {picture.position}"
    try:
        size, num_channels = model.image_size, model.num_image_channels
        pixels = pixels_of(picture.pixels, name, image_size=size, num_channels=num_channels, fit=model.fit)
    except DataError as error:
        return Failure(picture.position, str(error))
    except (*DAMAGED, AssertionError) as error:  # which Pillow raises of one whose file is closed
        return Failure(picture.position, str(unreadable(str(picture.position), error)))
    return picture.position, pixels


def _decode(path: Path, model: PackedModel) -> Decoded:
    try:
        size, num_channels = model.image_size, model.num_image_channels
        return path, decode_image(path, image_size=size, num_channels=num_channels, fit=model.fit)
    except DataError as error:
        return Failure(path, _refusal(path) or str(error))


def _refusal(path: Path) -> str | None:
    """Why the system does not let the file be read, in its own words; None if it does."""
    try:
        path.open("rb").close()
    except IsADirectoryError:
        return f"no images in {path}, or it cannot be looked into"
    except OSError as error:
        return f"cannot read the image {path}: {error.strerror or error}"
    return None


def _classify(engine: "Engine", decoded: Sequence[Decoded], top: int | None) -> Iterator[Answer]:
    pixels = [each[1] for each in decoded if not isinstance(each, Failure)]
    with np.errstate(invalid="ignore"):  # told below, with the image's name
        rankings = _rankings(engine.probabilities(np.stack(pixels)), engine.model.classes, top) if pixels else iter(())
    for each in decoded:
        if isinstance(each, Failure):
            yield each
        elif (ranking := next(rankings)) is not None:
            yield Prediction(each[0], ranking)
        else:
            name = each[0] if isinstance(each[0], Path) else f"image {each[0]}"
            yield Failure(each[0], f"the network's scores of {name} are not finite; train it again and export it")


def _rankings(
    probabilities_BC: np.ndarray, classes: Sequence[str], top: int | None
) -> Iterator[tuple[tuple[str, float], ...] | None]:
    """Of every image; None where a probability is not finite."""
    order_BK = np.argsort(-probabilities_BC, axis=1, kind="stable")[:, :top]
    ranked_BK = np.take_along_axis(probabilities_BC, order_BK, axis=1)
    is_finite_B = np.asarray(np.isfinite(probabilities_BC).all(axis=1))
    for is_finite, order, ranked in zip(is_finite_B.tolist(), order_BK.tolist(), ranked_BK.tolist(), strict=True):
        names = [classes[int(index)] for index in order]
        yield tuple(zip(names, map(float, ranked), strict=True)) if is_finite else None
