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

METADATA_KEY = "cpnas"
"""Under which a tensor file says all that is not a tensor."""

_MAX_HEADER_BYTES = 1 << 27
_DIGEST_BYTES = 16
_CHANGED = "its content does not match its checksum"
_LOGGER = logging.getLogger(__name__)


class ChangedError(ValueError):
    """A document is not what was written."""


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


def text_checksum(text: bytes) -> str:
    """32 hexadecimal digits (BLAKE2b, 16 bytes) of a file, or of the beginning of one."""
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


def with_checksum(document: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object with the checksum of all else that it says, at its end; one that it has gives way.

    It is that of the object as JSON with sorted keys, so that neither order nor white space matter.

    """
    said = {key: value for key, value in document.items() if key != CHECKSUM_KEY}
    return {**said, CHECKSUM_KEY: _document_checksum(said)}


def without_checksum(document: dict[str, Any]) -> dict[str, Any]:
    """The same object without its checksum; one that has none, of an older version or written by hand, as it is.

    Raises:
      ChangedError: it was changed since it was written.
    """
    key = CHECKSUM_KEY if CHECKSUM_KEY in document else next(reversed(document), "")
    said = {name: value for name, value in document.items() if name != key}
    matches = document.get(key) == _document_checksum(said)
    if matches != (key == CHECKSUM_KEY):  # it does not match, or it does under a name that was damaged
        raise ChangedError(_CHANGED)
    return said if matches else document


def _document_checksum(said: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(said))  # the keys that are numbers are texts now
    return text_checksum(json.dumps(plain, sort_keys=True).encode())


def stated_in(path: Path) -> dict[str, Any]:
    """The state in the header of a tensor file, of which nothing else is read and nothing verified.

    Raises:
      OSError: it cannot be read. ValueError: it is no such file.
    """
    with path.open("rb") as file:
        num_bytes = int.from_bytes(file.read(8), "little")
        if num_bytes > min(_MAX_HEADER_BYTES, path.stat().st_size):
            raise ValueError("it has no header of a tensor file")
        header = json.loads(file.read(num_bytes))
    try:
        state = json.loads(header["__metadata__"][METADATA_KEY])["state"]
    except (LookupError, TypeError) as error:
        raise ValueError("it says nothing of itself") from error
    return state if isinstance(state, dict) else {}


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
        raise CheckpointError(f"{path} is damaged: {_CHANGED}; {advice}")
