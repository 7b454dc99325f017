"""The checksum that a tensor file carries of all it says: a flipped bit is found before it becomes another answer."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cpnas_cli.errors import CheckpointError

CHECKSUM_KEY = "blake2b"
"""Beside what a file says of itself."""

_DIGEST_BYTES = 16
_LOGGER = logging.getLogger(__name__)


class Content(NamedTuple):
    """An array of a file: `dtype` as the program calls it, `values` as they lie in memory, in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: Any


def checksum(document: Mapping[str, Any], contents: Iterable[Content]) -> str:
    """32 hexadecimal digits (BLAKE2b, 16 bytes) of what the file says of itself, as JSON, and of its arrays.

    Args:
      document: without the checksum; the order of its keys is part of it.
      contents: in any order; their names are distinct.
    """
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    found.update(json.dumps(document).encode("utf-8", "surrogatepass"))
    for each in sorted(contents, key=lambda content: content.name):
        found.update(json.dumps([each.name, each.dtype, each.shape]).encode("utf-8", "surrogatepass"))
        found.update(each.values)
    return found.hexdigest()


def verify(path: Path, document: Mapping[str, Any], contents: Iterable[Content], *, advice: str) -> None:
    """Refuse a file whose content is not what was written; one of an older version, without a checksum, is noted.

    Args:
      document: what the file says of itself, its checksum under `CHECKSUM_KEY`.
      advice: the end of the error's line, what to do about it.

    Raises:
      CheckpointError: it was changed since.
    """
    if CHECKSUM_KEY not in document:
        _LOGGER.warning("%s is of an older version and has no checksum, so damage to it would not be seen", path)
        return
    said = {key: value for key, value in document.items() if key != CHECKSUM_KEY}
    if checksum(said, contents) != document[CHECKSUM_KEY]:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum; {advice}")
