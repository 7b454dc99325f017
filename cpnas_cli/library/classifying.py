"""Classify images from Python with a packed network; torch is not imported."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.deploy.predict import (
    Answer,
    Failure,
    Picture,
    Prediction,
    Source,
    find_packed,
    predict_images,
    square_pixels,
    walk_images,
)
from cpnas_cli.errors import DataError
from cpnas_cli.library.paths import AnyPath

if TYPE_CHECKING:
    from cpnas_cli.deploy.engine import Engine

Images = AnyPath | Image.Image | np.ndarray
"""A file or a folder; a picture of Pillow; pixels (H, W), (H, W, C) or, of several images, (N, H, W, C)."""


class Classifier:
    """A packed network, ready to classify."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._engine.model.classes)

    @property
    def image_size(self) -> int:
        """Pixels of a side, to which images are brought."""
        return self._engine.model.image_size

    def predict(self, images: Images | Iterable[Images], *, top: int | None = None) -> list[Prediction]:
        """The classes of every image, the most probable first.

        Args:
          images: a file, a folder, an image of Pillow or an array of uint8 pixels, see `Images`; or several of them.
            All are brought to the size and channels of the network as files are, see `cpnas predict`.
          top: how many classes are ranked; None: all.

        Raises:
          DataError: an image cannot be read, a folder holds none, or an array is no image; `stream` goes on behind the
            first of these.
        """
        answers = []
        for answer in self.stream(images, top=top):
            if isinstance(answer, Failure):
                raise DataError(answer.error)
            answers.append(answer)
        return answers

    def stream(self, images: Images | Iterable[Images], *, top: int | None = None) -> Iterator[Answer]:
        """The same one by one, in bounded memory: a `Prediction`, or a `Failure` that says why there is none.

        Raises:
          DataError: a folder holds no images, or an array is no image.
        """
        with contextlib.closing(predict_images(self._engine, _sources_of(images), top=top)) as answers:
            yield from answers

    def pixels(self, image: Images) -> np.ndarray:
        """What the network reads of an image, as the C program takes it: uint8 (S, S, C), row after row.

        Args:
          image: one, see `Images`.

        Raises:
          DataError: it cannot be read, or it is more or less than one.
        """
        return square_pixels(list(_sources_of(image)), self._engine.model)

    def __repr__(self) -> str:
        return f"Classifier({len(self.classes)} classes, {self.image_size}x{self.image_size} pixels)"


def _sources_of(images: Images | Iterable[Images]) -> Iterator[Source]:
    several = iter([images] if isinstance(images, str | Path | Image.Image | np.ndarray) else images)
    paths = list[Path]()
    for each in several:
        if not isinstance(each, str | Path):  # what follows is taken as it is needed
            return _numbered(itertools.chain(paths, [each], several))
        paths.append(Path(each))
    return walk_images(paths, [])


def _numbered(images: Iterable[Images]) -> Iterator[Source]:
    """What is in memory with its position among all the images."""
    position = 0
    for each in images:
        found = walk_images([Path(each)], []) if isinstance(each, str | Path) else _pictures_of(each)
        for image in found:
            yield image if isinstance(image, Path) else Picture(position, image)
            position += 1


def _pictures_of(image: Any) -> Iterator[Image.Image]:
    """
    Raises:
      DataError: it is neither an image of Pillow nor an array of uint8 pixels.
    """
    if isinstance(image, Image.Image):
        yield image
        return
    if not isinstance(image, np.ndarray) or not _is_pixels(image):
        raise DataError(
            "expected a file, a folder, an image of Pillow, or uint8 pixels of shape (H, W), (H, W, C) or (N, H, W, C) "
            f"with C = 1, 3 or 4, got {_described(image)}"
        )
    for pixels in image if image.ndim == 4 else [image]:
        yield Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def _is_pixels(array: np.ndarray) -> bool:
    has_channels = array.ndim in (3, 4) and array.shape[-1] in (1, 3, 4)
    return array.dtype == np.uint8 and array.size > 0 and (array.ndim == 2 or has_channels)


def _described(image: object) -> str:
    if isinstance(image, np.ndarray):
        return f"{image.dtype} of shape {image.shape}"
    return type(image).__name__


def load(path: AnyPath, *, num_threads: int | None = None) -> Classifier:
    """A packed file, or the folder of a run that was exported.

    Args:
      num_threads: that decode and that classify; None: one per core.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    from cpnas_cli.deploy.engine import Engine

    return Classifier(Engine(load_packed(find_packed(Path(path))), num_threads=num_threads))
