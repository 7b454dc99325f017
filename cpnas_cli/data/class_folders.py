"""The images of a folder by class: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone, which is split.

`val/CLASS/*` beside `test/` validates in trainings; without a `test/` it stands in for it.

Only names are read here, and nothing needs torch.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpnas_cli.data.listing import (
    Skipped,
    describe_skipped,
    files_below,
    has_image_ending,
    is_image_name,
    name_below,
    split_files,
)
from cpnas_cli.data.shares import share_by_name
from cpnas_cli.errors import DataError

PARTS = ("train", "test", "val")

Labelled = tuple[Path, int]
"""An image file and the label of its class."""


@dataclass(frozen=True)
class ClassFolders:
    """What is in a folder of images.

    Attributes:
      classes: in the order of the labels. train, test: by class, and in each in the order of the names.
      validation: the same of `val/` beside `test/`; empty without it.
      skipped: files that are not used.
      test_fraction: what was asked for, where the folder is split here; None: it has `train/` and `test/`.
      problems: why nothing can be trained with it, one line each; empty if all is well.
    """

    root: Path
    classes: tuple[str, ...] = ()
    train: tuple[Labelled, ...] = ()
    test: tuple[Labelled, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    test_fraction: float | None = None
    problems: tuple[str, ...] = ()
    validation: tuple[Labelled, ...] = ()

    def split_record(self) -> dict[str, Any] | None:
        """How the folder was split: share and numbers of files, and a hash over the names of the test files.

        The hash is BLAKE2 over the sorted names relative to the folder, a zero byte after each.
        """
        if self.test_fraction is None:
            return None
        total = hashlib.blake2b(digest_size=16)
        for name in self.test_names():
            total.update(os.fsencode(name) + b"\0")
        return {
            "test_fraction": self.test_fraction,
            "num_train_files": len(self.train),
            "num_test_files": len(self.test),
            "hash": total.hexdigest(),
        }

    def test_names(self) -> list[str]:
        """Of the test images, relative to the folder, sorted."""
        return sorted(name_below(self.root, path) for path, _ in self.test)


def read_class_folders(root: Path, *, test_fraction: float) -> ClassFolders:
    """What is in the folder, with all that is wrong with it.

    Args:
      test_fraction: share of each class's images that test, if the folder has none of `train/`, `test/` and `val/`.

    Raises:
      DataError: there is no such folder, or one in it cannot be looked into.
    """
    try:
        return _read(root, test_fraction)
    except OSError as error:
        raise DataError(f"cannot look into {error.filename or root}: {error.strerror or error}") from None


def _read(root: Path, test_fraction: float) -> ClassFolders:
    if not root.is_dir():
        raise DataError(
            f"no data folder at {root}; expected train/CLASS/* and test/CLASS/* in it, or CLASS/*, which is split"
        )
    if any((root / part).is_dir() for part in PARTS):
        return _with_parts(root)
    return _without_parts(root, test_fraction)


def is_test_image(names: Sequence[str], test_fraction: float) -> list[bool]:
    """Which images of one class test: the same for every run and every seed.

    Args:
      names: relative to the folder of the data set, at least two; see `share_by_name`.
    """
    return share_by_name(names, test_fraction, purpose="cpnas test split")


# ---------------------------------------------------------------- train/ and test/


def _with_parts(root: Path) -> ClassFolders:
    test_folder = root / "test" if (root / "test").is_dir() else root / "val"
    found = ClassFolders(root)
    for folder in (root / "train", test_folder):
        if not folder.is_dir():
            expected = "expected train/CLASS/* and test/CLASS/* (or val/), or CLASS/* and none of them"
            return replace(found, problems=(f"{root} has no {folder.name}/ folder; {expected}",))
    classes, test_classes = _class_names(root / "train"), _class_names(test_folder)
    lacking = [folder for folder, names in ((root / "train", classes), (test_folder, test_classes)) if not names]
    if lacking:
        return replace(
            found, problems=tuple(f"{each} has no class folders; expected {each}/CLASS/*" for each in lacking)
        )
    beside = {"test": test_folder}
    if test_folder.name == "test" and (root / "val").is_dir() and _class_names(root / "val"):
        beside["validation"] = root / "val"
    skipped = [each for folder in (root / "train", *beside.values()) for each in _loose(folder)]
    problems = [line for folder in beside.values() for line in _unknown_classes(folder, classes)]
    train, more = _labelled(root / "train", classes)
    problems += _problems_of_classes(root / "train", classes, train, more)
    skipped += more
    parts = dict[str, tuple[Labelled, ...]]()
    for part, folder in beside.items():
        images, more = _labelled(folder, classes)
        parts[part] = tuple(images)
        skipped += more
        if not images:
            problems.append(f"{folder} holds no images{_but_what(more, folder)}; expected {folder}/CLASS/*")
    skipped += _beside(root, {"train", *(folder.name for folder in beside.values())})
    return replace(
        found,
        classes=tuple(classes),
        train=tuple(train),
        skipped=tuple(skipped),
        problems=tuple(problems),
        **parts,
    )


def _beside(root: Path, used: Set[str]) -> Iterator[Skipped]:
    """Images, by their endings, that lie in the folder of a data set and in none of the folders that it uses."""
    for here, folders, files in os.walk(root):
        is_root = Path(here) == root
        folders[:] = sorted(name for name in folders if is_image_name(name) and not (is_root and name in used))
        for name in sorted(files):
            if is_image_name(name) and has_image_ending(name):
                yield Skipped(Path(here) / name, "no class")


def _unknown_classes(folder: Path, classes: Sequence[str]) -> Iterator[str]:
    unknown = sorted(set(_class_names(folder)) - set(classes))
    if unknown:
        yield f"{folder} has classes that {folder.parent / 'train'} lacks: {', '.join(unknown)}"


# ---------------------------------------------------------------- class folders alone


def _without_parts(root: Path, test_fraction: float) -> ClassFolders:
    classes = _class_names(root)
    found = ClassFolders(root, test_fraction=test_fraction)
    if not classes:
        expected = f"expected {root}/CLASS/*, or train/CLASS/* and test/CLASS/* in it"
        return replace(found, problems=(f"{root} has no class folders; {expected}",))
    whole = [name for name in classes if (root / name / "train").is_dir()]
    if whole:
        return replace(
            found, problems=(f"{root / whole[0]} is a data set of its own, with train/ in it; name it instead",)
        )
    images, skipped = _labelled(root, classes)
    problems = _problems_of_classes(root, classes, images, skipped)
    train, test = list[Labelled](), list[Labelled]()
    by_class: dict[int, list[Path]] = {label: [] for label in range(len(classes))}
    for path, label in images:
        by_class[label].append(path)
    for label, own in by_class.items():
        if len(own) == 1:
            problems.append(
                f"{root / classes[label]} holds a single image; a split needs one to train and one to test: "
                "add images, or make train/CLASS/* and test/CLASS/*"
            )
            train.append((own[0], label))
        elif own:
            for path, tests in zip(own, is_test_image([name_below(root, p) for p in own], test_fraction), strict=True):
                (test if tests else train).append((path, label))
    return replace(
        found,
        classes=tuple(classes),
        train=tuple(train),
        test=tuple(test),
        skipped=(*_loose(root), *skipped),
        problems=tuple(problems),
    )


# ---------------------------------------------------------------- both


def _class_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and is_image_name(entry.name))


def _loose(folder: Path) -> Iterator[Skipped]:
    """What lies beside the class folders."""
    for path in sorted(folder.iterdir()):
        if is_image_name(path.name) and not path.is_dir():
            yield Skipped(path, "no class" if path.exists() else "dangling link")


def _labelled(folder: Path, classes: Sequence[str]) -> tuple[list[Labelled], list[Skipped]]:
    images, skipped = list[Labelled](), list[Skipped]()
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            own, more = split_files(files_below(folder / name))
            images += [(path, label) for path in own]
            skipped += more
    return images, skipped


def _problems_of_classes(
    folder: Path, classes: Sequence[str], images: Sequence[Labelled], skipped: Sequence[Skipped]
) -> list[str]:
    problems = [
        f"{folder} has a class folder whose name is not in UTF-8, {name!a}; rename it"
        for name in classes
        if not _is_text(name)
    ]
    problems += [
        f"{folder} has the class folders {one!a} and {other!a}, whose names look alike ({one}); rename or merge them"
        for one, other in _twins(classes)
    ]
    present = {label for _, label in images}
    for label, name in enumerate(classes):
        if label not in present:
            problems.append(f"{folder / name} holds no images{_but_what(skipped, folder / name)}")
    if len(classes) == 1:
        deeper = folder / classes[0]
        inner = _class_names(deeper)
        hint = f"; if its folders are the classes, name {deeper}" if len(inner) > 1 else ""
        problems.append(f"{folder} has one class ({classes[0]}); a classifier needs at least two{hint}")
    return problems


def _twins(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names that Unicode has two ways of writing: as Linux and a Mac save the same one."""
    first: dict[str, str] = {}
    for name in names:
        same = first.setdefault(unicodedata.normalize("NFC", name), name)
        if same != name:
            yield same, name


def _but_what(skipped: Sequence[Skipped], folder: Path) -> str:
    """What there is in place of images."""
    own = [each for each in skipped if each.path.is_relative_to(folder)]
    described = describe_skipped(own, folder)
    return f" ({described})" if described else ""


def _is_text(name: str) -> bool:
    """Whether it can be written in UTF-8, as JSON files and weights' headers are."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
