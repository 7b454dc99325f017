"""Which file a thread is reading: Pillow's warnings do not say what they are about."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

_THREAD = threading.local()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """`PIL.Image.open`, which see for what it raises; in the block the thread's warnings are about this file."""
    _THREAD.path = path
    try:
        with Image.open(path) as image:
            yield image
    finally:
        _THREAD.path = None


def being_read() -> Path | None:
    """The file that this thread reads."""
    found: Any = getattr(_THREAD, "path", None)
    return found
