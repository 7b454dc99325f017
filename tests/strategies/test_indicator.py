"""(4.15), (4.16) and abandoning, against numpy and against hand-made ties."""

import itertools
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpnas_cli.search_space import EDGES, INPUT_EDGES, NONE, OPERATIONS, is_connected
from cpnas_cli.settings import IndicatorName
from cpnas_cli.strategies.cpnas.indicator import (
    INDICATORS,
    abandon,
    evaluate_operations,
    indicator,
    mean_indicator,
    parent_slope,
    prefers_worse_children,
    weakest,
)

FEW = settings(max_examples=40, deadline=None, derandomize=True)

FRACTIONS = st.floats(0, 1)
# what accuracies and beta_P in 0..5 can give; two decimals, so that ties come up
MEAN_Z = st.integers(-500, 600).map(lambda hundredths: hundredths / 100)


@st.composite
def mean_z_of_an_edge(draw: st.DrawFn, num_candidates: int | None = None) -> dict[str, float]:
    """K of the operations, in any order, with their mean indicators."""
    number = num_candidates or draw(st.integers(1, 8))
    ops = draw(st.permutations(OPERATIONS))[:number]
    return {op: draw(MEAN_Z) for op in ops}


# ---------------------------------------------------------------- (4.15)


@FEW
@given(child=FRACTIONS, parent=FRACTIONS, beta_p=st.floats(0, 5))
def test_indicator_is_equation_4_15(child: float, parent: float, beta_p: float) -> None:
    """Told as weighted sums of the two accuracies; with the gap penalized the weights of beta_P turn around."""
    for name, sign in (("printed", 1), ("penalized", -1)):
        expected = np.dot([sign * beta_p, 1 - sign * beta_p], [parent, child])
        z = indicator(accuracy_child=child, accuracy_parent=parent, beta_p=beta_p, name=name)
        assert z == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("child", "parent", "beta_p", "printed", "penalized"),
    [
        (0.25, 0.75, 2, 1.25, -0.75),
        (0.75, 0.25, 2, -0.25, 1.75),
        (0.25, 0.75, 0.5, 0.5, 0.0),
        (0.25, 0.75, 0, 0.25, 0.25),  # the Child alone
        (0.25, 0.75, 1, 0.75, -0.25),  # as printed the Parent alone
        (0.5, 0.5, 1000, 0.5, 0.5),  # no gap
    ],
)
def test_indicator_by_hand(child: float, parent: float, beta_p: float, printed: float, penalized: float) -> None:
    for name, expected in (("printed", printed), ("penalized", penalized)):
        assert indicator(accuracy_child=child, accuracy_parent=parent, beta_p=beta_p, name=name) == expected


def test_a_parent_is_needed_unless_it_has_no_weight() -> None:
    assert set(INDICATORS) == set(get_args(IndicatorName))
    for name in INDICATORS:
        assert indicator(accuracy_child=0.3, accuracy_parent=None, beta_p=0, name=name) == 0.3
        with pytest.raises(ValueError, match="beta_P = 2 needs"):
            indicator(accuracy_child=0.3, accuracy_parent=None, beta_p=2, name=name)


PAIRS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=40)


@FEW
@given(pairs=PAIRS, beta_p=st.integers(0, 20).map(lambda quarters: quarters / 4))
def test_the_slope_is_least_squares_and_tells_where_z_turns(pairs: list[tuple[int, int]], beta_p: float) -> None:
    """Against numpy's polynomial fit, and against the covariance of z itself."""
    child, parent = np.array(pairs).T / 100
    slope = parent_slope(child.tolist(), parent.tolist())
    if len(set(child)) == 1:
        assert slope is None
        return
    assert slope is not None
    assert slope == pytest.approx(np.polyfit(child, parent, 1)[0], abs=1e-9)
    for name in INDICATORS:
        z = [
            indicator(accuracy_child=c, accuracy_parent=p, beta_p=beta_p, name=name)
            for c, p in zip(child, parent, strict=True)
        ]
        covariance = np.cov(z, child)[0, 1]
        if abs(covariance) > 1e-9:
            assert prefers_worse_children(name=name, beta_p=beta_p, slope=slope) == (covariance < 0)


def test_a_saturated_parent_turns_the_printed_indicator_around() -> None:
    """b = 0: beta_P (1 - b) > 1 from beta_P = 1 on; with the gap penalized never."""
    assert parent_slope([0.2, 0.4, 0.6], [0.9, 0.9, 0.9]) == 0
    turned = [prefers_worse_children(name="printed", beta_p=beta, slope=0.0) for beta in (0, 0.5, 1, 1.5, 2)]
    assert turned == [False, False, False, True, True]
    assert not any(prefers_worse_children(name="penalized", beta_p=beta, slope=0.0) for beta in (0, 1, 2, 100))
    assert prefers_worse_children(name="penalized", beta_p=1, slope=2.5)  # where the Parent varies more than the Child
    assert parent_slope([0.5], [0.7]) is None
    assert parent_slope([], []) is None


def test_the_mean_does_not_depend_on_the_order() -> None:
    values = [0.1, 0.7, 1e16, 0.3, -1e16, 1 / 3]
    means = {mean_indicator(list(order)) for order in itertools.permutations(values)}
    assert means == {float(sum(map(Fraction, values))) / 6}
    assert mean_indicator([0.3]) == 0.3


@FEW
@given(values=st.lists(st.floats(-5, 6), min_size=1, max_size=8))
def test_the_mean_is_the_mean(values: list[float]) -> None:
    assert mean_indicator(values) == pytest.approx(np.mean(values), abs=1e-12)
    assert mean_indicator(values[::-1]) == mean_indicator(values)


# ---------------------------------------------------------------- (4.16)


@FEW
@given(mean_z=mean_z_of_an_edge())
def test_evaluation_is_equation_4_16(mean_z: dict[str, float]) -> None:
    exponentials = np.exp(np.array(list(mean_z.values())))
    expected = exponentials / exponentials.sum()
    evaluation = evaluate_operations(mean_z)
    assert list(evaluation) == list(mean_z)
    np.testing.assert_allclose(list(evaluation.values()), expected, rtol=1e-13)
    assert sum(evaluation.values()) == pytest.approx(1)


@pytest.mark.parametrize("shift", [1e4, -1e4, 1e15])
def test_evaluation_does_not_overflow(shift: float) -> None:
    evaluation = evaluate_operations({"none": shift, "skip_connect": shift + 1, "sep_conv_3x3": shift + 2})
    expected = np.exp([-2, -1, 0]) / np.exp([-2, -1, 0]).sum()
    np.testing.assert_allclose(list(evaluation.values()), expected, rtol=1e-13)
    assert evaluate_operations({"none": -1e300, "skip_connect": 1e300}) == {"none": 0.0, "skip_connect": 1.0}


def test_evaluation_of_equals_and_of_the_last_one() -> None:
    assert set(evaluate_operations(dict.fromkeys(OPERATIONS, 0.7)).values()) == {0.125}
    assert evaluate_operations({"max_pool_3x3": -3.0}) == {"max_pool_3x3": 1.0}


# ---------------------------------------------------------------- abandoning


@FEW
@given(mean_z=mean_z_of_an_edge())
def test_the_weakest_has_the_smallest_mean_and_stands_first(mean_z: dict[str, float]) -> None:
    worst = np.min(list(mean_z.values()))
    tied = [op for op in OPERATIONS if mean_z.get(op) == worst]
    assert weakest(evaluate_operations(mean_z)) == tied[0]


@pytest.mark.parametrize("first", range(8))
def test_ties_go_in_the_order_of_the_operations(first: int) -> None:
    """Whatever the order of the mapping."""
    tied = OPERATIONS[first:]
    for ops in (tied, tied[::-1]):
        assert weakest(dict.fromkeys(ops, 0.25)) == OPERATIONS[first]


@FEW
@given(edges=st.integers(2, 8).flatmap(lambda k: st.lists(mean_z_of_an_edge(k), min_size=14, max_size=14)))
def test_abandon_takes_the_weakest_of_every_edge(edges: list[dict[str, float]]) -> None:
    evaluations = tuple(evaluate_operations(mean_z) for mean_z in edges)
    if all(set(edges[index]) == {NONE, weakest(evaluations[index])} for index in INPUT_EDGES):
        return  # the exception, below
    stay, abandoned = abandon(evaluations)
    assert len(stay) == len(abandoned) == 14
    for before, after, gone in zip(edges, stay, abandoned, strict=True):
        assert gone == weakest(evaluate_operations(before))
        assert list(after) == [op for op in OPERATIONS if op in before and op != gone]  # one less, in order
        assert len(after) == len(before) - 1


def edges_where_none_leads(leads: dict[tuple[int, int], float]) -> tuple[dict[str, float], ...]:
    """Two left on every edge, `none` and a rival; `none` leads by so much, elsewhere by 0.5; e sums to 1."""
    rivals = {edge: OPERATIONS[1 + index % 7] for index, edge in enumerate(EDGES)}
    half = {edge: leads.get(edge, 0.5) / 2 for edge in EDGES}
    # the rival comes first, so that nothing hangs on the order of the mapping
    return tuple({rivals[edge]: 0.5 - half[edge], NONE: 0.5 + half[edge]} for edge in EDGES)


def connections(stay: tuple[tuple[str, ...], ...]) -> list[tuple[int, int]]:
    return [edge for edge, alive in zip(EDGES, stay, strict=True) if alive != (NONE,)]


@pytest.mark.parametrize("closest", [(0, 2), (1, 3), (0, 4), (1, 5)])
def test_a_disconnected_cell_keeps_the_closest_rival(closest: tuple[int, int]) -> None:
    evaluations = edges_where_none_leads({closest: 0.125, (2, 3): 0.0625})  # (2, 3) leaves no input node
    stay, abandoned = abandon(evaluations)
    assert connections(stay) == [closest]
    index = EDGES.index(closest)
    rival = OPERATIONS[1 + index % 7]
    assert stay[index] == (rival,)
    assert abandoned[index] == NONE
    others = [gone for i, gone in enumerate(abandoned) if i != index]
    assert others == [OPERATIONS[1 + i % 7] for i in range(14) if i != index]
    assert is_connected(tuple(alive[0] for alive in stay))


def test_equal_leads_go_to_the_first_edge() -> None:
    assert connections(abandon(edges_where_none_leads({}))[0]) == [(0, 2)]
    assert connections(abandon(edges_where_none_leads({(1, 4): 0.25, (0, 5): 0.25}))[0]) == [(1, 4)]


def test_a_tie_abandons_none_so_that_the_rule_is_not_needed() -> None:
    assert connections(abandon(edges_where_none_leads({(1, 4): 0.0}))[0]) == [(1, 4)]
    all_tied = abandon(edges_where_none_leads(dict.fromkeys(EDGES, 0.0)))
    assert connections(all_tied[0]) == list(EDGES)
    assert set(all_tied[1]) == {NONE}


@pytest.mark.parametrize("connected", [(0, 2), (1, 2), (0, 5), (1, 5)])
def test_one_connection_from_an_input_is_enough(connected: tuple[int, int]) -> None:
    """The rule is not applied: where `none` is clearly ahead it stays, though another edge is closer."""
    stay, abandoned = abandon(edges_where_none_leads({connected: -0.25, (0, 3): 0.0625}))
    assert connections(stay) == [connected]
    assert abandoned[EDGES.index(connected)] == NONE


def test_an_inner_connection_is_not_enough() -> None:
    stay, _ = abandon(edges_where_none_leads({(2, 3): -0.25, (4, 5): -0.25, (1, 2): 0.25}))
    assert connections(stay) == [(1, 2), (2, 3), (4, 5)]


def test_the_rule_waits_for_the_last_round() -> None:
    """With three left, `none` and another stay everywhere: nothing is disconnected yet."""
    three = {NONE: 0.5, "skip_connect": 0.3, "dil_conv_5x5": 0.2}
    stay, abandoned = abandon((three,) * 14)
    assert set(stay) == {(NONE, "skip_connect")}
    assert set(abandoned) == {"dil_conv_5x5"}


@FEW
@given(rivals=st.lists(st.sampled_from(OPERATIONS[1:]), min_size=14, max_size=14), mean_z=st.data())
def test_the_last_round_leaves_a_connected_cell(rivals: list[str], mean_z: st.DataObject) -> None:
    """`none` ahead or level on every edge, which random edges hardly ever are."""
    leads = mean_z.draw(st.lists(st.sampled_from([0.0, 0.01, 0.5, 3.0]), min_size=14, max_size=14))
    evaluations = tuple(evaluate_operations({NONE: lead, op: 0.0}) for op, lead in zip(rivals, leads, strict=True))
    stay, abandoned = abandon(evaluations)
    assert is_connected(tuple(op for (op,) in stay))
    for rival, (op,), gone in zip(rivals, stay, abandoned, strict=True):
        assert {op, gone} == {NONE, rival}
    level = [index for index in INPUT_EDGES if leads[index] == 0]
    closest = min(INPUT_EDGES, key=lambda index: leads[index])
    assert [index for index in INPUT_EDGES if stay[index] != (NONE,)] == (level or [closest])
