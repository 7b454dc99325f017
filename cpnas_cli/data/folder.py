"""One's own images: `train/CLASS/*` and `test/CLASS/*` (or `val/`), any image that Pillow reads."""

from collections.abc import Sequence
from pathlib import Path

from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.data.splits import balanced_subset
from cpnas_cli.errors import DataError
from cpnas_cli.settings import DataConfig


class Folder(ImageSource):
    """The classes are the folders in `train/`; grey if every image is, else in colour."""

    def load(self, config: DataConfig) -> LoadedImages:
        import torch

        from cpnas_cli.data.cache import common_num_channels, decode_cached
        from cpnas_cli.data.dataset import ImageSet

        if config.dir is None:
            raise DataError("data.name=folder needs --data-dir FOLDER, with train/CLASS/* and test/CLASS/* in it")
        root = Path(config.dir)
        if not root.is_dir():
            raise DataError(f"no data folder at {root}; expected train/CLASS/* and test/CLASS/* in it")
        test_folder = root / "test" if (root / "test").is_dir() else root / "val"
        for folder in (root / "train", test_folder):
            if not folder.is_dir():
                raise DataError(
                    f"{root} has no {folder.name}/ folder; expected train/CLASS/* and test/CLASS/* (or val/)"
                )
        classes = _class_names(root / "train")
        unknown = sorted(set(_class_names(test_folder)) - set(classes))
        if unknown:
            raise DataError(f"{test_folder} has classes that {root / 'train'} lacks: {', '.join(unknown)}")
        parts = [
            _list_images(folder, classes, size)
            for folder, size in ((root / "train", config.num_train), (test_folder, config.num_test))
        ]
        num_channels = config.num_channels or common_num_channels([path for part in parts for path, _ in part])

        def decode(part: list[tuple[Path, int]]) -> ImageSet:
            paths = [path for path, _ in part]
            images = decode_cached(paths, root=root, image_size=config.image_size, num_channels=num_channels)
            return ImageSet(images, torch.tensor([label for _, label in part]))

        train, test = map(decode, parts)
        return LoadedImages(train, test, classes, test_files=[path for path, _ in parts[1]])


def _class_names(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no class folders; expected {folder}/CLASS/*")
    return names


def _list_images(folder: Path, classes: Sequence[str], size: int | None) -> list[tuple[Path, int]]:
    from cpnas_cli.data.decoding import is_image_name

    found = [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if path.is_file() and is_image_name(path.name)
    ]
    present = {label for _, label in found}
    if folder.name == "train":
        empty = [name for label, name in enumerate(classes) if label not in present]
        if empty:
            raise DataError(f"{folder / empty[0]} holds no images")
        if len(classes) < 2:
            raise DataError(f"{folder} has one class ({classes[0]}); a classifier needs at least two")
    if not found:
        raise DataError(f"{folder} holds no images; expected {folder}/CLASS/*")
    return [found[index] for index in balanced_subset([label for _, label in found], size)]


FOLDER = Folder("folder")
