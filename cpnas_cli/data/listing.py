"""Which files of a folder are images, and which are none: what is left out is counted, and nothing needs Pillow here.

Hidden files and what file managers leave (`Thumbs.db`, `__MACOSX`) are nobody's images and are not spoken of.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Reason = Literal["no image", "dangling link", "no file", "no class"]
"""Why a file is skipped; "no file": a socket, a pipe or a device; "no class": it lies beside the class folders."""

_COUNTED: Mapping[Reason, tuple[str, str]] = {
    "no image": ("is no image", "are no images"),
    "dangling link": ("is a link without a target", "are links without a target"),
    "no file": ("is no regular file", "are no regular files"),
    "no class": ("lies in no class folder", "lie in no class folder"),
}

_NOT_IMAGES = {"thumbs.db", "desktop.ini", "__macosx"}

# A file with such a name is meant to be an image: one that cannot be read is reported. .heic, .heif and .jxl are
# photos too, which Pillow does not read; to skip them would be to lose them.
_IMAGE_SUFFIXES = {".apng", ".avif", ".avifs", ".bmp", ".dds", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2k"}
_IMAGE_SUFFIXES |= {".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".pbm", ".pcx", ".pgm", ".png", ".pnm", ".ppm"}
_IMAGE_SUFFIXES |= {".tga", ".tif", ".tiff", ".webp"}

_NUM_NAMED = 3
_NUM_KEPT = 20


@dataclass(frozen=True)
class Skipped:
    """A file that is not used, and why."""

    path: Path
    reason: Reason


def is_image_name(name: str) -> bool:
    """Whether a file in a folder of images is looked at: all are, but hidden ones and what file managers leave."""
    return not name.startswith(".") and name.lower() not in _NOT_IMAGES


def files_below(folder: Path) -> Iterator[Path | Skipped]:
    """The images in a folder, however deep, in the order of their names, and between them what is skipped.

    Links are followed, but not back up. A file without an image's ending is one if Pillow knows what it is. A folder
    that cannot be looked into comes as if it were an image, to be reported.
    """
    yield from _below(folder, ())


def split_files(found: Iterator[Path | Skipped]) -> tuple[list[Path], list[Skipped]]:
    """Images, and what is skipped."""
    images, skipped = list[Path](), list[Skipped]()
    for each in found:
        if isinstance(each, Skipped):
            skipped.append(each)
        else:
            images.append(each)
    return images, skipped


def _below(folder: Path, above: tuple[str, ...]) -> Iterator[Path | Skipped]:
    own = os.path.realpath(folder)
    if own in above:  # a link back up
        return
    names, folders, others = list[str](), set[str](), set[str]()  # of 100,000 files the names alone stay in memory
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_image_name(entry.name):
                    continue
                names.append(entry.name)
                if _holds(entry.is_dir):
                    folders.add(entry.name)
                elif not _holds(entry.is_file):
                    others.add(entry.name)
    except OSError:
        yield folder
        return
    for name in sorted(names):
        path = folder / name
        if name in folders:
            yield from _below(path, (*above, own))
        elif name in others:
            yield Skipped(path, "dangling link" if path.is_symlink() else "no file")
        else:
            yield path if looks_like_an_image(path) else Skipped(path, "no image")


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a link in a circle, for one
        return False


def has_image_ending(name: str) -> bool:
    """Whether a file of this name is meant to be an image."""
    return os.path.splitext(name)[1].lower() in _IMAGE_SUFFIXES


def looks_like_an_image(path: Path) -> bool:
    """By its ending; without an image's, by what Pillow makes of its first bytes."""
    if has_image_ending(path.name):
        return True
    from PIL import Image

    from cpnas_cli.data.decoding import DAMAGED
    from cpnas_cli.data.reading import opened

    try:
        with opened(path):
            return True
    except Image.DecompressionBombError:
        return True
    except DAMAGED:
        return False


def describe_skipped(skipped: Sequence[Skipped], root: Path | None = None) -> str | None:
    """How many, why, and the first names, on one line; None: nothing was skipped.

    Args:
      root: the folder to which the names are relative; without it they are whole paths.
    """
    if not skipped:
        return None
    by_reason: dict[Reason, list[str]] = {}
    for each in skipped:
        by_reason.setdefault(each.reason, []).append(str(each.path) if root is None else name_below(root, each.path))
    parts = []
    for reason, names in by_reason.items():
        more = ", ..." if len(names) > _NUM_NAMED else ""
        words = _COUNTED[reason][len(names) > 1]
        parts.append(f"{len(names):,} {words} ({', '.join(names[:_NUM_NAMED])}{more})")
    return "; ".join(parts)


def skipped_record(skipped: Sequence[Skipped], root: Path) -> dict[str, Any]:
    """How many files are skipped, how many of them for which reason, and the first names, relative to the folder."""
    return {
        "num_files": len(skipped),
        "reasons": dict(Counter(each.reason for each in skipped)),
        "first": [name_below(root, each.path) for each in skipped[:_NUM_KEPT]],
    }


def name_below(root: Path, path: Path) -> str:
    """The name relative to the folder, with / between its parts on every system."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
