"""Whether a mirrored image would still be of its class, as far as the classes' names tell."""

import re
from collections.abc import Sequence

_WORDS = re.compile(r"left|right|arrow|clockwise|digit|letter|number|character|text", re.IGNORECASE)
_MOST_NAMES = 3


def mirror_hint(classes: Sequence[str]) -> str | None:
    """What to do where names speak of digits, letters or directions; None where no name does."""
    doubtful = [name for name in classes if _is_sign(name) or _WORDS.search(name)]
    if not doubtful:
        return None
    names = ", ".join(map(repr, doubtful[:_MOST_NAMES])) + (" and others" if len(doubtful) > _MOST_NAMES else "")
    return (
        f"classes such as {names} may not be the same mirrored, and data.flip=true mirrors half of the training "
        "images; add --set data.flip=false"
    )


def _is_sign(name: str) -> bool:
    """One letter or sign, or a number."""
    return name.isdecimal() or len(name) == 1
