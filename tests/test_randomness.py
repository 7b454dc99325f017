"""Seeds are a function of (seed, purpose, index), the same everywhere; shuffles are permutations."""

import hashlib
import itertools
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpnas_cli.randomness import derived_seed, python_generator, shuffled, torch_generator

FEW = settings(max_examples=30, deadline=None, derandomize=True)

PURPOSES = st.text(max_size=12)
INDICES = st.lists(st.integers(-5, 10**6), max_size=3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, "draw", 8, 0), 1999781173434129693),
        ((0, "draw", 8, 1), 1290799430849103350),
        ((1, "draw", 8, 0), 8232626389941046475),
        ((0, "search split"), 6565477103237526326),
        ((2**70, "é"), 4324542274381923734),
    ],
)
def test_derived_seed_is_pinned(arguments: tuple[int, str], expected: int) -> None:
    """A change here changes every published number: same seed, another genotype."""
    assert derived_seed(*arguments) == expected


@FEW
@given(seed=st.integers(0, 2**70), purpose=PURPOSES, index=INDICES)
def test_derived_seed_is_a_hash_of_its_arguments(seed: int, purpose: str, index: list[int]) -> None:
    text = "/".join([f"{seed}", purpose] + [f"{i}" for i in index])
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    expected = sum(byte << (8 * position) for position, byte in enumerate(digest)) // 2
    assert derived_seed(seed, purpose, *index) == expected
    assert 0 <= expected < 2**63  # what torch and every file format can hold


def test_derived_seeds_differ() -> None:
    arguments = [(s, p, *i) for s in range(20) for p in ("a", "b") for i in [(), *((e,) for e in range(20)), (1, 1)]]
    assert len({derived_seed(*a) for a in arguments}) == len(arguments)


def test_generators_start_from_the_derived_seed() -> None:
    expected = random.Random(derived_seed(3, "p", 4)).random()
    assert python_generator(3, "p", 4).random() == expected
    reference = torch.rand(5, generator=torch.Generator().manual_seed(derived_seed(3, "p", 4)))
    assert torch.equal(torch.rand(5, generator=torch_generator(3, "p", 4)), reference)
    assert torch_generator(3, "p", 4).device == torch.device("cpu")


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    def derive() -> tuple[list[int], list[float]]:
        order = shuffled(range(10), python_generator(7, "p", 1))
        return order, torch.rand(4, generator=torch_generator(7, "p", 1)).tolist()

    def global_numbers() -> list[float]:
        return [random.random(), float(np.random.random()), torch.rand(()).item()]

    def seed_globals() -> None:
        random.seed(99)
        np.random.seed(99)
        torch.manual_seed(99)

    first = derive()
    seed_globals()
    expected = global_numbers()
    seed_globals()
    assert derive() == first
    assert global_numbers() == expected


def test_shuffled_is_pinned() -> None:
    assert shuffled(range(10), random.Random(0)) == [9, 4, 0, 5, 2, 7, 1, 3, 6, 8]
    assert shuffled("abc", python_generator(0, "draw", 3, 0)) == ["c", "b", "a"]


@FEW
@given(items=st.lists(st.integers(), max_size=12), seed=st.integers(0, 2**63))
def test_shuffled_is_a_permutation_by_fisher_and_yates(items: list[int], seed: int) -> None:
    original = list(items)
    result = shuffled(items, random.Random(seed))
    assert items == original  # the argument is left as it was
    assert Counter(result) == Counter(items)
    # Fisher-Yates told the other way round: the last place takes a random one of those that are left
    numbers = random.Random(seed)
    left, expected = list(items), []
    while len(left) > 1:
        chosen = int(numbers.random() * len(left))
        left[chosen], left[-1] = left[-1], left[chosen]
        expected.append(left.pop())
    assert result == (left + expected[::-1])


def test_every_order_is_as_likely() -> None:
    num_draws = 6000
    counts = Counter(tuple(shuffled("abc", python_generator(0, "orders", i))) for i in range(num_draws))
    assert set(counts) == set(itertools.permutations("abc"))
    expected = num_draws / 6
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_square < 25.7  # 5 degrees of freedom: exceeded by chance once in 10,000


@pytest.mark.parametrize("items", [[], ["one"]])
def test_nothing_to_shuffle(items: list[str]) -> None:
    assert shuffled(items, random.Random(0)) == items
