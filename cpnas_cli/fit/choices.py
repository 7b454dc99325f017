"""What the photos decide, and what cannot work with them; pure functions of what `cpnas data` finds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cpnas_cli.data.mirroring import one_sided_classes
from cpnas_cli.errors import DataError, shell_word
from cpnas_cli.registry import RECOMMENDED_STRATEGY

FEWEST_IMAGES = 5
"""Training images of a class; with fewer, nothing that is learnt of it would be seen again. Ours."""

SMALL_PICTURES = 48
"""Pixels, halfway from 32 to 64: pictures whose shorter side is below this in the middle lose nothing at 32."""


@dataclass(frozen=True)
class Choice:
    """A setting, its value, and why; `by` is "cpnas fit", or "--set" where it was asked for."""

    setting: str
    value: Any
    why: str
    by: str = "cpnas fit"


def check_photos(data: Mapping[str, Any]) -> None:
    """Refuse photos that nothing can be learnt from.

    Args:
      data: `cpnas.data/1`.

    Raises:
      DataError: the first problem that `cpnas data` has with them, or a class of fewer than 5 training images.
    """
    if data["unreadable"]:
        names = ", ".join(entry["image"] for entry in data["unreadable"][:5])
        more = f" and {len(data['unreadable']) - 5:,} more" if len(data["unreadable"]) > 5 else ""
        raise DataError(
            f"{len(data['unreadable']):,} of the images in {data['folder']} cannot be read: {names}{more}; leave them "
            f"out or replace them (`cpnas data {shell_word(data['folder'])}` says why)"
        )
    if data["problems"]:
        raise DataError(data["problems"][0])
    name = min(data["classes"], key=lambda each: data["train"][each])
    number = data["train"][name]
    if number < FEWEST_IMAGES:
        images = "1 image" if number == 1 else f"{number} images"
        raise DataError(
            f"the class {name} has {images} to train with; cpnas fit needs at least {FEWEST_IMAGES} of every class: "
            "add photos of it, or leave the class out"
        )


def notes_on(data: Mapping[str, Any]) -> list[str]:
    """What does not keep one from training, but should be known before one believes the accuracy."""
    notes = []
    twice = sum(entry["across_split"] for entry in data["duplicates"])
    if twice:
        notes.append(f"{twice:,} images are in both training and test images, so that the test accuracy flatters")
    several = sum(entry["across_classes"] and not entry["across_split"] for entry in data["duplicates"])
    if several:
        notes.append(f"{several:,} images are in several classes, of which one at most is right")
    if data["imbalance"] and data["imbalance"]["hint"]:
        notes.append(data["imbalance"]["hint"])
    untested = [name for name in data["classes"] if not data["test"][name]]
    if untested:
        notes.append(f"there is no test image of {', '.join(untested[:5])}, so nothing will be known of it")
    if data["skipped"]["num_files"]:
        notes.append(f"{data['skipped']['num_files']:,} files are skipped (`cpnas data` names them)")
    return notes


def choices_of_photos(data: Mapping[str, Any], *, asked: Collection[str], image_size: int) -> list[Choice]:
    """Size of the images and how they are varied.

    Args:
      data: `cpnas.data/1` of photos that `check_photos` lets pass.
      asked: settings that are not to be chosen. image_size: the one that is asked for, if it is.
    """
    choices = []
    if "data.image_size" not in asked:
        width, height = (data["sizes"][side]["median"] for side in ("width", "height"))
        image_size = 32 if min(width, height) < SMALL_PICTURES else 64
        why = f"the pictures have {width:g}x{height:g} pixels in the middle"
        choices.append(Choice("data.image_size", image_size, why))
    if "data.crop_padding" not in asked:
        choices.append(Choice("data.crop_padding", image_size // 10, "a tenth of the side"))
    if "data.flip" not in asked and (names := one_sided_classes(data["classes"])):
        why = f"the class {names[0]} may be another thing in the mirror; --set data.flip=true if it is not"
        choices.append(Choice("data.flip", False, why))
    return choices


def choices_of_search(asked: Collection[str]) -> list[Choice]:
    """How an architecture is searched.

    Args:
      asked: settings that are not to be chosen.
    """
    if "search.strategy" in asked:
        return []
    return [Choice("search.strategy", RECOMMENDED_STRATEGY, "of all, it found the best networks in the least time")]
