"""How numbers and names stand on a page: numbers with their units, names of any origin as something that only shows."""

import json
import math
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cpnas_cli.runs import deadline

# Control characters, lone surrogates, what ends a line, and what turns the text around or cannot be seen; joiners
# (U+200C, U+200D) stay, for names are written with them
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_MOST_CHARACTERS = 4000

ABSENT = "\N{EN DASH}"


def visible(text: str) -> str:
    """A text that a user or a file chose, with what would not be seen spelled out; of a very long one the beginning."""
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]} … ({len(text):,} characters)"
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def is_number(value: Any) -> bool:
    """Whether it can be drawn: a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def percent(fraction: float | None, *, digits: int = 2) -> str:
    return f"{100 * fraction:.{digits}f} %" if is_number(fraction) and fraction is not None else ABSENT


def percent_with_deviation(mean: float | None, deviation: float | None) -> str:
    spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
    return ABSENT if mean is None else f"{100 * mean:.2f}{spread} %"


def number(value: Any) -> str:
    """A whole number with separators, another with four digits."""
    if not is_number(value):
        return ABSENT
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    return ABSENT if seconds is None or not is_number(seconds) else deadline.duration(seconds)


def milliseconds(seconds: float | None) -> str:
    return ABSENT if seconds is None else f"{1e3 * seconds:.3g} ms"


def size(num_bytes: float | None) -> str:
    """Bytes as B, KiB or MiB."""
    if num_bytes is None or not is_number(num_bytes):
        return ABSENT
    if num_bytes < 1024:
        return f"{num_bytes:g} B"
    return f"{num_bytes / 1024:.1f} KiB" if num_bytes < 2**20 else f"{num_bytes / 2**20:.1f} MiB"


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], *, most: int = 40) -> str:
    """With commas; of many the first."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shell_line(words: Sequence[Any]) -> str:
    """As it is typed; the program by its name, wherever it lay."""
    texts = [word if isinstance(word, str) else json.dumps(word) for word in words]
    if texts and os.path.basename(texts[0]) in ("__main__.py", "cpnas"):
        texts[0] = "cpnas"
    return shlex.join(texts)


def link(target: Path, *, page: Path) -> str:
    """The relative address of a file or a folder, from the page.

    Every name is quoted, so that a folder called `javascript:` is a folder.
    """
    relative = os.path.relpath(target.resolve(), page.resolve().parent)
    return quote(os.fsencode(relative)) + ("/" if target.is_dir() else "")
