"""MNIST and Fashion-MNIST: the four original IDX files, gzipped or not.

An IDX file of bytes: two zeros, the type (8), the number of dimensions, each dimension as a big-endian 32-bit number,
then the values, the last dimension fastest. Source: "File formats" in Y. LeCun, C. Cortes and C. Burges, "The MNIST
database of handwritten digits". Ours and not torchvision's reader, which takes no gzipped file and only fails an
assertion on a damaged one.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.data.torchvision_sets import data_folder, download
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

PARTS = ("train", "t10k")
KINDS = {"images": 3, "labels": 1}  # and the dimensions of each
_UNSIGNED_BYTES = 8
_MOST_BYTES = 1 << 31  # of one file's values; MNIST has 47 million


def read_idx(path: Path, *, num_dimensions: int) -> "np.ndarray":
    """The values of an IDX file of unsigned bytes, gzipped or not: uint8, in the shape that the file says.

    Raises:
      DataError: unreadable, no IDX file, of another type or number of dimensions, or with fewer or more values than its
        header says.
    """
    import numpy as np

    try:
        with path.open("rb") as raw:
            is_gzipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if is_gzipped else path.open("rb") as file:
            header = file.read(4 + 4 * num_dimensions)
            shape = _shape(path, header, num_dimensions=num_dimensions)
            values = file.read(math.prod(shape) + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"cannot read {path}: {' '.join(str(reason).split())}") from None
    if len(values) != math.prod(shape):
        found = "more" if len(values) > math.prod(shape) else f"{len(values):,}"
        words = " x ".join(map(str, shape))
        raise DataError(f"{path} is damaged: its header says {words} values, and it holds {found}; fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _shape(path: Path, header: bytes, *, num_dimensions: int) -> tuple[int, ...]:
    expected = bytes([0, 0, _UNSIGNED_BYTES, num_dimensions])
    if header[:4] != expected:
        raise DataError(
            f"{path} is no IDX file of {num_dimensions} dimension{'s' * (num_dimensions > 1)} of bytes: it begins with "
            f"{header[:4].hex(' ') or 'nothing'} and not {expected.hex(' ')}"
        )
    if len(header) < 4 + 4 * num_dimensions:
        raise DataError(f"{path} is damaged: it ends within its header; fetch it again")
    shape = struct.unpack(f">{num_dimensions}I", header[4:])
    if 0 in shape or math.prod(shape) > _MOST_BYTES:
        raise DataError(f"{path} is damaged: its header says {' x '.join(map(str, shape))} values; fetch it again")
    return shape


@dataclass(frozen=True)
class IdxSet(ImageSource):
    """
    Attributes:
      kind: the class in `torchvision.datasets`, and its folder. title: for people.
      package: of Debian, and where it puts the files; both None where there is none.
    """

    downloads: bool = True
    kind: str = ""
    title: str = ""
    package: str | None = None
    installed: Path | None = None

    def load(self, config: DataConfig) -> LoadedImages:
        import torchvision.datasets

        from cpnas_cli.data.arrays import from_arrays

        folder = self._folder(config) or self._downloaded(config)
        train, test = (self._part(folder, part) for part in PARTS)
        if train[0].shape[1:] != test[0].shape[1:]:
            sizes = (f"{images.shape[2]}x{images.shape[3]}" for images, _ in (train, test))
            raise DataError(f"{folder}: the training images have {' pixels, the test images '.join(sizes)}")
        return from_arrays(config, train, test, getattr(torchvision.datasets, self.kind).classes)

    def _folder(self, config: DataConfig) -> Path | None:
        """The first of the usual folders that holds any of the files."""
        for folder in self._candidates(config):
            if any(_find(folder, part, kind) for part in PARTS for kind in KINDS):
                return folder
        return None

    def _candidates(self, config: DataConfig) -> Sequence[Path]:
        root = data_folder(config)
        candidates = [root, root / "raw", root / self.kind / "raw"]
        return candidates + ([self.installed] if self.installed and not config.dir else [])

    def _downloaded(self, config: DataConfig) -> Path:
        root = data_folder(config)
        package = f", or install Debian's package {self.package}" if self.package else ""
        advice = (
            f"put train-images-idx3-ubyte and the three other files of {self.title} there, gzipped or not, or into "
            f"{self.kind}/raw, and name the folder with --data-dir{package}"
        )
        download(self.name, self.kind, root, train=True, advice=advice)
        return root / self.kind / "raw"

    def _part(self, folder: Path, part: str) -> "tuple[Tensor, Tensor]":
        """uint8 (N, 1, H, W) and int64 (N,)."""
        import numpy as np
        import torch

        found = {kind: _find(folder, part, kind) for kind in KINDS}
        for kind, path in found.items():
            if path is None:
                name = f"{part}-{kind}-idx{KINDS[kind]}-ubyte"
                raise DataError(f"{folder} lacks {name} (or {name}.gz); it belongs to the four files of {self.title}")
        images, labels = (read_idx(path, num_dimensions=KINDS[kind]) for kind, path in found.items() if path)
        if len(images) != len(labels):
            counts = f"{len(images):,} images and {len(labels):,} labels"
            raise DataError(f"{folder} holds {counts} in its {part} files; fetch them again")
        if images.shape[1] != images.shape[2]:
            raise DataError(
                f"{found['images']} holds images of {images.shape[1]}x{images.shape[2]} pixels, not square ones"
            )
        if self.num_classes is not None and labels.max() >= self.num_classes:
            raise DataError(
                f"{found['labels']} holds the label {labels.max()}; {self.title} has 0 to {self.num_classes - 1}"
            )
        return torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels.astype(np.int64))


def _find(folder: Path, part: str, kind: str) -> Path | None:
    """The file of the folder under one of its usual names."""
    for separator in "-.":
        for ending in ("", ".gz"):
            path = folder / f"{part}-{kind}{separator}idx{KINDS[kind]}-ubyte{ending}"
            if path.is_file():
                return path
    return None


MNIST = IdxSet("mnist", num_image_channels=1, num_classes=10, kind="MNIST", title="MNIST")
FASHION_MNIST = IdxSet(
    "fashion-mnist",
    num_image_channels=1,
    num_classes=10,
    kind="FashionMNIST",
    title="Fashion-MNIST",
    package="dataset-fashion-mnist",
    installed=Path("/usr/share/datasets/fashion-mnist"),
)
