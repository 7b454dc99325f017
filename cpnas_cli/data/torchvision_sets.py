"""The data sets that torchvision downloads, and those that it reads too."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig


def data_folder(config: DataConfig) -> Path:
    """Where a data set is looked for and downloaded to: the folder that the settings name, else one in the cache."""
    from cpnas_cli.storage.cache import cache_folder

    return Path(config.dir) if config.dir else cache_folder() / "datasets"


def download(name: str, kind: str, folder: Path, *, train: bool, advice: str) -> Any:
    """The part of a data set as torchvision gives it, downloaded where it is not there.

    Args:
      kind: the class in `torchvision.datasets`. advice: the end of the error's line, what to do instead.

    Raises:
      DataError: it is not there, and could not be downloaded, or there is no folder to download it to.
    """
    from torchvision import datasets

    try:
        with _alone(name, folder):
            return getattr(datasets, kind)(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{name} is not in {folder} and could not be downloaded ({reason}); {advice}") from None


@contextlib.contextmanager
def _alone(name: str, folder: Path) -> Iterator[None]:
    """Another process may be downloading the same; where there can be no cache folder none is waited for.

    Raises:
      DataError: the data set would be in the cache folder, which cannot be used.
    """
    from filelock import FileLock

    from cpnas_cli.storage.cache import CACHE_ADVICE, cache_folder

    with contextlib.ExitStack() as stack:
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache_folder() / f"{name}.lock"))
        except OSError as error:
            if folder.is_relative_to(cache_folder()):
                raise DataError(
                    f"the folder {cache_folder()}, to which {name} would be downloaded, cannot be used "
                    f"({error.strerror or error}); {CACHE_ADVICE}, or name a folder that holds {name} with --data-dir"
                ) from None
        yield


@dataclass(frozen=True)
class TorchvisionSet(ImageSource):
    """
    Attributes:
      kind: the class in `torchvision.datasets`. files: what its folder holds, for people.
    """

    downloads: bool = True
    kind: str = ""
    files: str = ""

    def load(self, config: DataConfig) -> LoadedImages:
        import torch

        from cpnas_cli.data.arrays import from_arrays

        advice = f"put {self.files} there and name the folder with --data-dir"
        parts, classes = [], []
        for train in (True, False):
            part = download(self.name, self.kind, data_folder(config), train=train, advice=advice)
            images = torch.as_tensor(part.data).permute(0, 3, 1, 2).contiguous()
            parts.append((images, torch.as_tensor(part.targets, dtype=torch.int64)))
            classes = part.classes
        return from_arrays(config, parts[0], parts[1], classes)


CIFAR10 = TorchvisionSet(
    "cifar10",
    num_image_channels=3,
    num_classes=10,
    kind="CIFAR10",
    files="cifar-10-batches-py/ (unpacked cifar-10-python.tar.gz)",
)
CIFAR100 = TorchvisionSet(
    "cifar100",
    num_image_channels=3,
    num_classes=100,
    kind="CIFAR100",
    files="cifar-100-python/ (unpacked cifar-100-python.tar.gz)",
)
