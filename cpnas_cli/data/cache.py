"""Many image files at once, and the cache of what was decoded."""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from cpnas_cli.data.decoding import DAMAGED, GREY_MODES, decode_image, unreadable
from cpnas_cli.data.reading import opened
from cpnas_cli.errors import CheckpointError, DataError, RunError
from cpnas_cli.settings import FitName
from cpnas_cli.storage.cache import CACHE_ADVICE, cache_folder
from cpnas_cli.storage.mapped import filling
from cpnas_cli.storage.tensors import load_tensors

_CACHE_SCHEMA = "cpnas.images/2"  # to be counted up whenever we decode the same bytes to other pixels
_CHUNK = 4096  # images that are handed to the threads at once
_LOGGER = logging.getLogger(__name__)


def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=min(32, os.cpu_count() or 1))


def common_num_channels(paths: Sequence[Path]) -> int:
    """1 if every image is grey, else 3; only the headers are read."""

    def is_grey(path: Path) -> bool:
        try:
            with opened(path) as image:
                return image.mode in GREY_MODES
        except DAMAGED as error:
            raise unreadable(path, error) from None

    with _workers() as workers:
        return 1 if all(workers.map(is_grey, paths)) else 3


def unreadable_images(paths: Sequence[Path]) -> dict[Path, DataError]:
    """Those that cannot be decoded, in their order, and why; every image is decoded."""

    def error_of(path: Path) -> DataError | None:
        try:
            decode_image(path, image_size=1, num_channels=3)
        except DataError as error:
            return error
        return None

    with _workers() as workers:
        errors = workers.map(error_of, paths)
        return {path: error for path, error in zip(paths, errors, strict=True) if error is not None}


def decode_cached(
    paths: Sequence[Path], *, root: Path, image_size: int, num_channels: int, fit: FitName = "squash"
) -> Tensor:
    """The images as uint8 (N, C, S, S), decoded, or read from what was decoded from the very same bytes before.

    The key is a hash over every file's bytes, so a changed image is never taken from the cache, and over the version
    of Pillow, whose decoders and filters change; a cache file that is truncated or damaged is made again.

    The images are mapped from the cache's file, and filled there: more of them than memory has room for is no obstacle.
    """
    how = f"{_CACHE_SCHEMA} {image_size} {num_channels} Pillow {PIL.__version__}"
    if fit != "squash":  # which was all there was, and its caches stay
        how += f" {fit}"
    key = _content_key(paths, root, how)
    path = cache_folder() / f"images-{key}.safetensors"
    shape = (len(paths), num_channels, image_size, image_size)
    try:
        images = load_tensors(path, schema=_CACHE_SCHEMA)[0]["images"]  # whose own checksum is verified there
        if images.shape == shape and images.dtype == torch.uint8:
            return images
    except (CheckpointError, KeyError):
        pass  # absent or damaged
    try:
        with filling(path, "images", shape, schema=_CACHE_SCHEMA, advice=CACHE_ADVICE) as images_NCSS:
            _decode_into(images_NCSS, paths, fit=fit)
        return load_tensors(path, schema=_CACHE_SCHEMA)[0]["images"]
    except RunError as error:
        _LOGGER.warning("the decoded images are not cached, the next run decodes them again: %s", error)
    images_NCSS = np.empty(shape, np.uint8)
    _decode_into(images_NCSS, paths, fit=fit)
    return torch.from_numpy(images_NCSS)


def _decode_into(images_NCSS: np.ndarray, paths: Sequence[Path], *, fit: FitName) -> None:
    _, num_channels, image_size, _ = images_NCSS.shape

    def decode(index: int) -> None:
        images_NCSS[index] = decode_image(paths[index], image_size=image_size, num_channels=num_channels, fit=fit)

    with _workers() as workers:
        for start in range(0, len(paths), _CHUNK):  # a million waiting calls would take more memory than the images
            for _ in workers.map(decode, range(start, min(start + _CHUNK, len(paths)))):
                pass


def _content_key(paths: Sequence[Path], root: Path, what: str) -> str:
    def digest(path: Path) -> bytes:
        try:
            return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise unreadable(path, error) from None

    total = hashlib.blake2b(what.encode(), digest_size=16)
    with _workers() as workers:
        for path, content in zip(paths, workers.map(digest, paths), strict=True):
            total.update(os.fsencode(path.relative_to(root)) + b"\0" + content)
    return total.hexdigest()
