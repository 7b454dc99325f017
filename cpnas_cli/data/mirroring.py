"""Whether a mirrored image would still be of its class, as far as the classes' names tell."""

import re
from collections.abc import Collection

_WORDS = {
    "left", "right", "arrow", "arrows", "clockwise", "counterclockwise", "anticlockwise", "digit", "digits", "letter",
    "letters", "number", "numbers", "character", "characters", "text",
}  # fmt: skip
_MOST_NAMES = 3


def one_sided_classes(classes: Collection[str]) -> list[str]:
    """Those whose names say that left and right matter: a digit, a letter or another sign, a number, a direction."""
    return [name for name in classes if len(name) == 1 or name.isdecimal() or _WORDS & _words_of(name)]


def _words_of(name: str) -> set[str]:
    return set(re.findall("[a-z]+", name.lower()))


def mirror_hint(classes: Collection[str]) -> str | None:
    """What to do where names speak of digits, letters or directions; None where no name does."""
    doubtful = one_sided_classes(classes)
    if not doubtful:
        return None
    names = ", ".join(map(repr, doubtful[:_MOST_NAMES])) + (" and others" if len(doubtful) > _MOST_NAMES else "")
    return (
        f"classes such as {names} may not be the same mirrored, and data.flip=true mirrors half of the training "
        "images; add --set data.flip=false"
    )
