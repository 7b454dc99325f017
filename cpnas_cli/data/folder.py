"""One's own images: `train/CLASS/*` and `test/CLASS/*` (and `val/`), or `CLASS/*`, any image that Pillow reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpnas_cli.data.class_folders import ClassFolders, Labelled, read_class_folders
from cpnas_cli.data.listing import describe_skipped, name_below, skipped_record
from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.data.splits import balanced_subset
from cpnas_cli.errors import DataError, shell_word
from cpnas_cli.settings import DataConfig

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import ImageSet

_MOST_NAMED = 20


class Folder(ImageSource):
    """The classes are the folders in `train/`, or in the folder itself; grey if every image is, else in colour."""

    def load(self, config: DataConfig) -> LoadedImages:
        if config.dir is None:
            raise DataError(
                "data.name=folder needs --data-dir FOLDER, with train/CLASS/* and test/CLASS/*, or CLASS/*, in it"
            )
        found = read_class_folders(Path(config.dir), test_fraction=config.test_fraction)
        if found.problems:
            raise DataError(found.problems[0])
        parts = [_subset(found.train, config.num_train), _subset(found.test, config.num_test)]
        parts += [list(found.validation)] if found.validation else []
        try:
            train, test, *more = _decode(parts, config, root=found.root)
        except DataError:
            from cpnas_cli.data.cache import unreadable_images

            paths = [path for part in parts for path, _ in part]
            errors = unreadable_images(paths)
            if len(errors) < 2:
                raise
            raise _several_unreadable(list(errors), root=found.root, num_images=len(paths)) from None
        return LoadedImages(
            train,
            test,
            found.classes,
            _record(found),
            _notes(found),
            test_files=[path for path, _ in parts[1]],
            validation=more[0] if more else None,
            train_names=[name_below(found.root, path) for path, _ in parts[0]],
        )


def _decode(parts: Sequence[Sequence[Labelled]], config: DataConfig, *, root: Path) -> "list[ImageSet]":
    """Each part's images and labels; grey if all training and test images are, whatever those are that validate.

    Raises:
      DataError: an image cannot be read; the first one that was met.
    """
    import torch

    from cpnas_cli.data.cache import common_num_channels, decode_cached
    from cpnas_cli.data.dataset import ImageSet

    num_channels = config.num_channels or common_num_channels([path for part in parts[:2] for path, _ in part])
    decoded = []
    for part in parts:
        paths = [path for path, _ in part]
        images = decode_cached(
            paths, root=root, image_size=config.image_size, num_channels=num_channels, fit=config.fit
        )
        decoded.append(ImageSet(images, torch.tensor([label for _, label in part])))
    return decoded


def _several_unreadable(paths: Sequence[Path], *, root: Path, num_images: int) -> DataError:
    """All of them in one line, so that they can be mended at once."""
    names = ", ".join(name_below(root, path) for path in paths[:_MOST_NAMED])
    more = f" and {len(paths) - _MOST_NAMED:,} more" if len(paths) > _MOST_NAMED else ""
    num_forbidden = sum(_is_forbidden(path) for path in paths)
    others = f"of another user ({num_forbidden:,}: Permission denied), " if num_forbidden else ""
    return DataError(
        f"cannot read {len(paths):,} of {num_images:,} images in {root}: {names}{more}; they are no images that Pillow "
        f"knows, {others}or damaged; leave them out (`cpnas data {shell_word(root)}` names all)"
    )


def _is_forbidden(path: Path) -> bool:
    try:
        path.open("rb").close()
    except PermissionError:
        return True
    except OSError:
        pass
    return False


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
    if found.validation:
        number = len(found.validation)
        notes.append(f"{found.root / 'val'} validates in trainings ({number:,} images), and no search looks at it")
    skipped = describe_skipped(found.skipped, found.root)
    return tuple(notes) if skipped is None else (*notes, f"skipped in {found.root}: {skipped}")


FOLDER = Folder("folder")
