"""One large array that is filled in its file, so that no copy of it is ever in memory as a whole."""

import contextlib
import json
import math
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cpnas_cli.storage.checksum import CHECKSUM_KEY, METADATA_KEY, Content, checksum
from cpnas_cli.storage.documents import replacing


@contextlib.contextmanager
def filling(
    path: Path, name: str, shape: tuple[int, ...], *, schema: str, advice: str | None = None
) -> Iterator[np.ndarray]:
    """An array of bytes to be filled, uint8 of this shape, mapped from a new file.

    When the block ends well, the file takes the place of `path`, as `save_tensors` would have written it with this one
    tensor and an empty state; `load_tensors` maps it again.

    Args:
      advice: see `replacing`.

    Raises:
      RunError: it cannot be written, or there is no room for all of it, which is found before anything is filled.
    """
    num_bytes = math.prod(shape)
    document = {"schema": schema, "state": {}}
    with replacing(path, advice=advice) as temporary:
        header = _header(document | {CHECKSUM_KEY: "0" * 32}, name, shape)
        with temporary.open("r+b") as file:
            _reserve(file, len(header) + num_bytes)
            whole = mmap.mmap(file.fileno(), len(header) + num_bytes)
        values = np.frombuffer(whole, np.uint8, num_bytes, offset=len(header))
        yield values.reshape(shape)
        found = checksum(document, [Content(name, "uint8", shape, values)])
        whole[: len(header)] = _header(document | {CHECKSUM_KEY: found}, name, shape)
        whole.flush()


def _header(document: Mapping[str, object], name: str, shape: tuple[int, ...]) -> bytes:
    """Of a safetensors file: eight bytes of length, then JSON, filled up with spaces to a multiple of eight."""
    tensor = {"dtype": "U8", "shape": list(shape), "data_offsets": [0, math.prod(shape)]}
    text = json.dumps({"__metadata__": {METADATA_KEY: json.dumps(document)}, name: tensor}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _reserve(file: BinaryIO, num_bytes: int) -> None:
    """Take the room on the disk: to write into a mapped page that has none would end the process.

    Raises:
      OSError: there is none.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        return
    zeros = bytes(2**20)
    for start in range(0, num_bytes, len(zeros)):
        file.write(zeros[: num_bytes - start])
    file.flush()
