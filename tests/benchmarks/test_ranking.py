"""The brute-force comparison of the indicator's ranking with full trainings, at tiny size."""

import itertools
from collections.abc import Sequence

import pytest
from conftest import TINY_SETTINGS

from benchmarks.ranking import CANDIDATES, architecture, rank, scores
from cpnas_cli.search_space import is_connected


def test_the_space_has_16_connected_architectures():
    every = {architecture(*ops) for ops in itertools.product(CANDIDATES, repeat=2)}
    assert len(every) == 16
    assert all(is_connected(cell) for genotype in every for cell in genotype.cells().values())


def test_scores_add_up_what_each_edge_was_given():
    """With accuracies that depend on the operations alone, the order of the scores is known."""
    worth = {op: index / 10 for index, op in enumerate(CANDIDATES)}
    records = [
        {"ops": ops, "accuracy_child": worth[ops[0]] + worth[ops[1]] / 4, "accuracy_parent": 0.9}
        for ops in itertools.product(CANDIDATES, repeat=2)
    ]
    for beta_p, sign in ((0.0, 1), (2.0, -1)):  # z = A_C, and z = 2 A_P - A_C, which turns the order around
        found = scores(records, beta_p=beta_p)
        expected = sorted(found, key=lambda ops: sign * (worth[ops[0]] + worth[ops[1]] / 4))
        assert sorted(found, key=lambda ops: found[ops])[0] == expected[0]
        assert sorted(found, key=lambda ops: found[ops])[-1] == expected[-1]
        for kept in CANDIDATES:
            one_edge = [found[op, kept] for op in CANDIDATES]
            assert one_edge == sorted(one_edge, reverse=sign < 0)


def pairwise_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b by its definition."""
    signs = [
        ((a > b) - (a < b), (c > d) - (c < d))
        for (a, c), (b, d) in itertools.combinations(zip(first, second, strict=True), 2)
    ]
    agree = sum(x * y for x, y in signs)
    return agree / (sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)) ** 0.5


@pytest.mark.slow(seconds=20)
def test_tau_compares_the_indicator_with_full_trainings():
    answer = rank(seeds=[0, 1], num_passes=1, overrides=[*TINY_SETTINGS])
    assert len(answer["accuracy_test"]) == 16
    first, second = zip(*answer["accuracy_test"].values(), strict=True)
    assert answer["tau_between_trainings"] == [pytest.approx(pairwise_tau(first, second))]
    assert {beta: len(taus) for beta, taus in answer["tau"].items()} == {"0": 2, "1": 2, "2": 2, "5": 2}
    assert all(-1 <= tau <= 1 for taus in answer["tau"].values() for tau in taus)
