"""One's own images: `train/CLASS/*` and `test/CLASS/*` (or `val/`), or `CLASS/*`, any image that Pillow reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpnas_cli.data.class_folders import ClassFolders, Labelled, read_class_folders
from cpnas_cli.data.listing import describe_skipped, skipped_record
from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.data.splits import balanced_subset
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig


class Folder(ImageSource):
    """The classes are the folders in `train/`, or in the folder itself; grey if every image is, else in colour."""

    def load(self, config: DataConfig) -> LoadedImages:
        import torch

        from cpnas_cli.data.cache import common_num_channels, decode_cached
        from cpnas_cli.data.dataset import ImageSet

        if config.dir is None:
            raise DataError(
                "data.name=folder needs --data-dir FOLDER, with train/CLASS/* and test/CLASS/*, or CLASS/*, in it"
            )
        found = read_class_folders(Path(config.dir), test_fraction=config.test_fraction)
        if found.problems:
            raise DataError(found.problems[0])
        parts = [_subset(found.train, config.num_train), _subset(found.test, config.num_test)]
        num_channels = config.num_channels or common_num_channels([path for part in parts for path, _ in part])

        def decode(part: Sequence[Labelled]) -> ImageSet:
            paths = [path for path, _ in part]
            images = decode_cached(paths, root=found.root, image_size=config.image_size, num_channels=num_channels)
            return ImageSet(images, torch.tensor([label for _, label in part]))

        train, test = map(decode, parts)
        return LoadedImages(train, test, found.classes, record=_record(found), notes=_notes(found))


def _subset(images: Sequence[Labelled], size: int | None) -> list[Labelled]:
    return [images[index] for index in balanced_subset([label for _, label in images], size)]


def _record(found: ClassFolders) -> dict[str, Any]:
    record: dict[str, Any] = {}
    split = found.split_record()
    if split is not None:
        record["split"] = split
    if found.skipped:
        record["skipped"] = skipped_record(found.skipped, found.root)
    return record


def _notes(found: ClassFolders) -> tuple[str, ...]:
    notes = []
    if found.test_fraction is not None:
        notes.append(
            f"{found.root} has no train/ and test/: {len(found.train):,} of its images train and {len(found.test):,} "
            f"test, the same ones every time (data.test_fraction={found.test_fraction:g})"
        )
    skipped = describe_skipped(found.skipped, found.root)
    return tuple(notes) if skipped is None else (*notes, f"skipped in {found.root}: {skipped}")


FOLDER = Folder("folder")
