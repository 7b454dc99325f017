"""Where images come from, by the name that the settings give.

Nothing here and in the files of the sources needs torch before `load` is called: settings are checked, and networks
are estimated, without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from cpnas_cli.settings import DataConfig

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import ImageSet


class LoadedImages(NamedTuple):
    """Training and test images, and the classes' names in the order of the labels.

    Attributes:
      record: what a run records of where they come from, beside what it records of every data set.
      notes: what a user should know of them, one line each.
      test_files: of every test image its file, where each has one.
      validation: images that validate in a training, where the data set comes with some.
      train_names: of every training image its name, where each has one.
    """

    train: "ImageSet"
    test: "ImageSet"
    classes: Sequence[str]
    record: Mapping[str, Any] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    test_files: Sequence[Path] | None = None
    validation: "ImageSet | None" = None
    train_names: Sequence[str] | None = None


@dataclass(frozen=True)
class ImageSource(ABC):
    """A data set by name.

    Attributes:
      name: in `data.name`.
      num_image_channels, num_classes: where they are known before the images are; None: they are as the images are.
      downloads: whether it fetches from elsewhere what is not there.
    """

    name: str
    num_image_channels: int | None = None
    num_classes: int | None = None
    downloads: bool = False

    def check(self, config: DataConfig) -> None:  # noqa: B027  # most have nothing to refuse
        """Refuse settings that the source does not understand, before anything is read.

        Raises:
          ValueError: what is wrong, and what to type instead.
        """

    @abstractmethod
    def load(self, config: DataConfig) -> LoadedImages:
        """The images in the size, with the channels and as many as the settings ask for.

        Raises:
          DataError: missing, empty, inconsistent or unreadable; the message names the folder or the file.
        """
