"""What is in a folder of images: counts, sizes, imbalance, duplicates, damaged files. Every image is decoded once.

Nothing decoded is kept: of an image stay its size, its mode and 16 bytes of hash. Nothing here needs torch.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cpnas_cli.data.class_folders import ClassFolders, Labelled, read_class_folders
from cpnas_cli.data.decoding import DAMAGED, GREY_MODES, upright
from cpnas_cli.data.listing import name_below, skipped_record
from cpnas_cli.data.mirroring import mirror_hint
from cpnas_cli.data.reading import opened
from cpnas_cli.errors import DataError
from cpnas_cli.storage.documents import DATA_SCHEMA

IMBALANCED = 3.0
"""From this ratio of the largest to the smallest class on there is a hint; ours."""

_MOST_THREADS = 8  # each holds a decoded image
_CHUNK = 256  # images that wait for a thread


@dataclass(frozen=True)
class Seen:
    """One image that could be decoded.

    Attributes:
      width, height: in pixels, as it stands upright. mode: Pillow's, of the file.
      digest: BLAKE2 over size and pixels in 8 bits, upright, in colour, transparent parts white, before resizing: the
        same for a copy in another format without loss, or without its EXIF.
    """

    name: str
    label: int
    part: str
    width: int
    height: int
    mode: str
    digest: bytes


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
      seen: in the order of the files, training images first. unreadable: (name, why) of the others.
    """

    found: ClassFolders
    seen: tuple[Seen, ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing can be trained with it, one line each."""
        if not self.unreadable:
            return self.found.problems
        number = len(self.unreadable)
        files = "1 image cannot be read" if number == 1 else f"{number:,} images cannot be read"
        return (*self.found.problems, f"{files}; leave them out or replace them")


def inspect_folder(root: Path, *, test_fraction: float) -> Inspection:
    """Decode every image of a folder that `data.name=folder` takes.

    Args:
      test_fraction: see `read_class_folders`.

    Raises:
      DataError: there is no such folder.
    """
    found = read_class_folders(root, test_fraction=test_fraction)
    seen, damaged = list[Seen](), list[tuple[str, str]]()
    for part, images in _parts(found).items():
        for each in _looked_at(found.root, part, images):
            if isinstance(each, Seen):
                seen.append(each)
            else:
                damaged.append(each)
    return Inspection(found, tuple(seen), tuple(damaged))


def _looked_at(root: Path, part: str, images: Sequence[Labelled]) -> Iterator[Seen | tuple[str, str]]:
    """In their order, by threads, some at a time, so that what waits is bounded."""
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as workers:
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            yield from workers.map(lambda image: _look_at(root, part, *image), chunk)


def _look_at(root: Path, part: str, path: Path, label: int) -> Seen | tuple[str, str]:
    name = name_below(root, path)
    try:
        with opened(path) as found:
            mode = found.mode
            image = upright(found, path).convert("RGB")
            content = hashlib.blake2b(f"{image.size}".encode(), digest_size=16)
            content.update(image.tobytes())
    except DataError as error:
        return name, str(error)
    except DAMAGED as error:
        reason = " ".join(str(error).split()).replace(str(path), name)
        return name, reason or type(error).__name__
    return Seen(name, label, part, *image.size, mode, content.digest())


# ---------------------------------------------------------------- the record


def inspection_document(inspection: Inspection) -> dict[str, Any]:
    """`cpnas.data/1`; names are relative to the folder, counts those of the files, readable or not."""
    found = inspection.found
    per_class = {
        part: dict(zip(found.classes, _counts(images, len(found.classes)), strict=True))
        for part, images in _parts(found).items()
    }
    validation = {
        "num_validation_images": len(found.validation),
        "validation": per_class.get("validation"),
    }
    split = found.split_record()
    return {
        "schema": DATA_SCHEMA,
        "folder": str(found.root),
        "usable": not inspection.problems,
        "problems": list(inspection.problems),
        "classes": list(found.classes),
        "num_train_images": len(found.train),
        "num_test_images": len(found.test),
        "train": per_class["train"],
        "test": per_class["test"],
        **(validation if found.validation else {}),
        "split": split and {**split, "test_files": found.test_names()},
        "imbalance": _imbalance(per_class["train"]),
        "mirror_hint": mirror_hint(found.classes),
        "sizes": _sizes(inspection.seen),
        "modes": dict(Counter(each.mode for each in inspection.seen).most_common()),
        "num_channels": _num_channels(inspection.seen),
        "duplicates": _duplicates(inspection.seen),
        "unreadable": [{"image": name, "error": error} for name, error in inspection.unreadable],
        "skipped": skipped_record(found.skipped, found.root),
    }


def _parts(found: ClassFolders) -> dict[str, Sequence[Labelled]]:
    """The images of the folder by what they are for; those that validate only where there are some."""
    parts: dict[str, Sequence[Labelled]] = {"train": found.train, "test": found.test}
    return {**parts, "validation": found.validation} if found.validation else parts


def _counts(images: Sequence[Labelled], num_classes: int) -> list[int]:
    counts = Counter(label for _, label in images)
    return [counts[label] for label in range(num_classes)]


def _imbalance(counts: Mapping[str, int]) -> dict[str, Any] | None:
    """The largest and the smallest class of the training images, and the ratio of their counts."""
    if not counts or min(counts.values()) == 0:
        return None
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    ratio = counts[largest] / counts[smallest]
    hint = None
    if ratio >= IMBALANCED:
        hint = (
            f"{largest} has {ratio:.1f} times the images of {smallest}: add images of {smallest}, and judge by the "
            "accuracy of each class, not by that of all images"
        )
    return {"ratio": ratio, "largest": largest, "smallest": smallest, "hint": hint}


def _sizes(seen: Sequence[Seen]) -> dict[str, Any] | None:
    """Pixels, of the images as they stand upright."""
    if not seen:
        return None

    def spread(values: Sequence[int]) -> dict[str, float]:
        return {"min": min(values), "median": median(values), "max": max(values)}

    return {
        "num_distinct": len({(each.width, each.height) for each in seen}),
        "width": spread([each.width for each in seen]),
        "height": spread([each.height for each in seen]),
    }


def _num_channels(seen: Sequence[Seen]) -> int | None:
    """That `data.num_channels: null` takes."""
    return (1 if all(each.mode in GREY_MODES for each in seen) else 3) if seen else None


def _duplicates(seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Groups of images with the same pixels, by their first file; see `Seen.digest`."""
    groups: dict[bytes, list[Seen]] = {}
    for each in seen:
        groups.setdefault(each.digest, []).append(each)
    return [
        {
            "files": [each.name for each in group],
            "across_split": len({each.part for each in group}) > 1,
            "across_classes": len({each.label for each in group}) > 1,
        }
        for group in groups.values()
        if len(group) > 1
    ]
