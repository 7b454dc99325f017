"""The data sets that torchvision downloads and reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig


@dataclass(frozen=True)
class TorchvisionSet(ImageSource):
    """
    Attributes:
      kind: the class in `torchvision.datasets`. files: what its folder holds, for people.
    """

    kind: str = ""
    files: str = ""

    def load(self, config: DataConfig) -> LoadedImages:
        import torch
        from filelock import FileLock
        from torchvision import datasets

        from cpnas_cli.data.arrays import from_arrays
        from cpnas_cli.data.cache import cache_folder

        folder = Path(config.dir) if config.dir else cache_folder() / "datasets"
        parts, classes = [], []
        for train in (True, False):
            try:
                cache_folder().mkdir(parents=True, exist_ok=True)
                with FileLock(cache_folder() / f"{self.name}.lock"):  # another process may be downloading the same
                    part: Any = getattr(datasets, self.kind)(str(folder), train=train, download=True)
            except (OSError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:120]
                raise DataError(
                    f"{self.name} is not in {folder} and could not be downloaded ({reason}); put "
                    f"{self.files} there and name the folder with --data-dir"
                ) from None
            images = torch.as_tensor(part.data)
            images = images.permute(0, 3, 1, 2).contiguous()
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
