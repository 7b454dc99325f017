"""All randomness of a run is derived from (seed, what it is for, epoch or draw).

Nothing depends on how much was drawn before, so an interrupted, a branched and an
uninterrupted run see the same numbers, and no generator state is ever saved.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def derived_seed(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derived_seed(0, "augmentation", epoch)``.

    The same arguments give the same number on every machine and Python version.
    """
    text = "/".join([str(seed), purpose, *map(str, index)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def torch_generator(seed: int, purpose: str, *index: int) -> "torch.Generator":
    """A CPU generator; CPU, so that every device sees the same random numbers."""
    import torch  # here, so that what only draws architectures starts without it

    return torch.Generator().manual_seed(derived_seed(seed, purpose, *index))


def python_generator(seed: int, purpose: str, *index: int) -> random.Random:
    return random.Random(derived_seed(seed, purpose, *index))


def shuffled(items: Sequence[T], generator: random.Random) -> list[T]:
    """Fisher-Yates over `random.Random.random`, the only method whose sequence Python guarantees."""
    result = list(items)
    for last in range(len(result) - 1, 0, -1):
        other = int(generator.random() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result
