"""Classify images from Python with a packed network; torch is not imported."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpnas_cli.deploy.packed_file import load_packed
from cpnas_cli.deploy.predict import Answer, Failure, Prediction, find_packed, predict_images, walk_images
from cpnas_cli.errors import DataError
from cpnas_cli.library.paths import AnyPath

if TYPE_CHECKING:
    from cpnas_cli.deploy.engine import Engine


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

    def predict(self, images: AnyPath | Iterable[AnyPath], *, top: int | None = None) -> list[Prediction]:
        """The classes of every image, the most probable first.

        Args:
          images: a file, a folder, or several of them; see `cpnas predict`.
          top: how many classes are ranked; None: all.

        Raises:
          DataError: an image cannot be read, or a folder holds none; `stream` goes on with the others.
        """
        answers = []
        for answer in self.stream(images, top=top):
            if isinstance(answer, Failure):
                raise DataError(answer.error)
            answers.append(answer)
        return answers

    def stream(self, images: AnyPath | Iterable[AnyPath], *, top: int | None = None) -> Iterator[Answer]:
        """The same one by one, in bounded memory: a `Prediction`, or a `Failure` that says why there is none.

        Raises:
          DataError: a folder holds no images.
        """
        paths = walk_images(_paths_of(images), [])
        with contextlib.closing(predict_images(self._engine, paths, top=top)) as answers:
            yield from answers

    def __repr__(self) -> str:
        return f"Classifier({len(self.classes)} classes, {self.image_size}x{self.image_size} pixels)"


def _paths_of(images: AnyPath | Iterable[AnyPath]) -> Sequence[Path]:
    return [Path(images)] if isinstance(images, str | Path) else [Path(each) for each in images]


def load(path: AnyPath, *, num_threads: int | None = None) -> Classifier:
    """A packed file, or the folder of a run that was exported.

    Args:
      num_threads: that decode and that classify; None: one per core.

    Raises:
      CheckpointError: there is none, or it is damaged.
    """
    from cpnas_cli.deploy.engine import Engine

    return Classifier(Engine(load_packed(find_packed(Path(path))), num_threads=num_threads))
