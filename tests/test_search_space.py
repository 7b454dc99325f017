"""The search space against brute force: reachability over every cell, draws without replacement."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpnas_cli import search_space as space
from cpnas_cli.errors import GenotypeError
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    INPUT_EDGES,
    NONE,
    OPERATIONS,
    Candidates,
    CellCandidates,
    Genotype,
    candidates_of,
    check_cell,
    draw_pass,
    draw_uniform,
    genotype_of,
    is_connected,
    live_edges,
    live_nodes,
)

FEW = settings(max_examples=30, deadline=None, derandomize=True)

CELLS = st.tuples(*[st.sampled_from(OPERATIONS)] * 14)


@st.composite
def cell_candidates(draw: st.DrawFn, num_candidates: int) -> CellCandidates:
    """K operations on every edge, another choice on each."""
    orders = draw(st.lists(st.permutations(OPERATIONS), min_size=14, max_size=14))
    return tuple(tuple(sorted(order[:num_candidates], key=OPERATIONS.index)) for order in orders)


@st.composite
def any_candidates(draw: st.DrawFn) -> Candidates:
    num_candidates = draw(st.integers(1, 8))
    return Candidates(draw(cell_candidates(num_candidates)), draw(cell_candidates(num_candidates)))


def cell_of(pattern: tuple[bool, ...]) -> tuple[str, ...]:
    """A cell with a connection where the pattern has True; which one changes from edge to edge."""
    return tuple(OPERATIONS[1 + index % 7] if connects else NONE for index, connects in enumerate(pattern))


def reached(cell: tuple[str, ...]) -> set[int]:
    """The nodes that nodes 0 and 1 reach, by powers of the adjacency matrix."""
    adjacency = np.zeros((6, 6), dtype=int)
    position = 0
    for to in (2, 3, 4, 5):
        for origin in range(to):
            adjacency[origin, to] = cell[position] != "none"
            position += 1
    paths = np.sum([np.linalg.matrix_power(adjacency, length) for length in range(6)], axis=0)
    return {0, 1} | {node for node in range(6) if paths[0, node] or paths[1, node]}


# ---------------------------------------------------------------- cells


def test_the_order_of_the_edges_is_the_one_of_the_file_format() -> None:
    expected = (
        *((0, 2), (1, 2)),
        *((0, 3), (1, 3), (2, 3)),
        *((0, 4), (1, 4), (2, 4), (3, 4)),
        *((0, 5), (1, 5), (2, 5), (3, 5), (4, 5)),
    )
    assert expected == EDGES
    assert [EDGES[index] for index in INPUT_EDGES] == [(i, j) for j in (2, 3, 4, 5) for i in (0, 1)]
    assert space.NUM_EDGES == 14
    assert (space.NUM_INPUT_NODES, space.NUM_INTERMEDIATE_NODES, space.NUM_NODES) == (2, 4, 6)


def test_the_operations_are_the_published_ones() -> None:
    expected = (
        "none",
        "skip_connect",
        "max_pool_3x3",
        "avg_pool_3x3",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    assert expected == OPERATIONS
    assert CELL_KINDS == ("normal", "reduce")


def test_live_nodes_and_edges_of_every_cell() -> None:
    """All 2^14 patterns of connections, against a search of our own."""
    for pattern in itertools.product((False, True), repeat=14):
        cell = cell_of(pattern)
        nodes = reached(cell)
        assert live_nodes(cell) == nodes
        assert live_edges(cell) == tuple(
            index for index, (origin, _) in enumerate(EDGES) if pattern[index] and origin in nodes
        )
        assert is_connected(cell) == bool(nodes - {0, 1})


def test_a_dead_node_and_what_hangs_on_it() -> None:
    """2 reads nothing, 3 reads 2 only, 4 reads 0 and both dead nodes, 5 reads nothing."""
    ops = dict.fromkeys(EDGES, NONE)
    ops |= {(2, 3): "sep_conv_3x3", (0, 4): "skip_connect", (2, 4): "skip_connect", (3, 4): "max_pool_3x3"}
    cell = tuple(ops.values())
    assert live_nodes(cell) == {0, 1, 4}
    assert [EDGES[index] for index in live_edges(cell)] == [(0, 4)]


@FEW
@given(normal=CELLS, reduce=CELLS)
def test_a_genotype_is_the_last_candidates(normal: tuple[str, ...], reduce: tuple[str, ...]) -> None:
    genotype = Genotype(normal, reduce)
    assert candidates_of(genotype) == Candidates(tuple((op,) for op in normal), tuple((op,) for op in reduce))
    assert candidates_of(genotype).num_candidates == 1
    assert genotype_of(candidates_of(genotype)) == genotype
    assert genotype.cells() == {"normal": normal, "reduce": reduce}


def test_candidates_with_a_choice_left_are_no_genotype() -> None:
    one = candidates_of(draw_uniform(seed=0))
    two = Candidates(one.normal, (*one.reduce[:-1], ("none", "skip_connect")))
    with pytest.raises(ValueError, match="exactly one operation"):
        genotype_of(two)
    with pytest.raises(ValueError, match="exactly one operation"):
        genotype_of(ALL_CANDIDATES)
    assert ALL_CANDIDATES.num_candidates == 8
    assert ALL_CANDIDATES.normal == ALL_CANDIDATES.reduce == (OPERATIONS,) * 14


# ---------------------------------------------------------------- sampling without replacement


@FEW
@given(candidates=any_candidates(), seed=st.integers(0, 2**40), pass_index=st.integers(0, 9))
def test_a_pass_draws_every_candidate_of_every_edge_once(candidates: Candidates, seed: int, pass_index: int) -> None:
    draws = draw_pass(candidates, seed=seed, pass_index=pass_index)
    assert len(draws) == candidates.num_candidates
    for kind, cell in candidates.cells().items():
        for edge, alive in enumerate(cell):
            assert Counter(draw.cells()[kind][edge] for draw in draws) == Counter(alive)


@pytest.mark.parametrize("num_candidates", [2, 8])
def test_the_pass_depends_on_seed_and_pass(num_candidates: int) -> None:
    cell = (OPERATIONS[:num_candidates],) * 14
    candidates = Candidates(cell, cell)
    draws = {tuple(draw_pass(candidates, seed=seed, pass_index=index)) for seed in range(10) for index in range(10)}
    assert len(draws) == 100  # 28 edges with 2 orders each: 2^28 passes, 100 of them are hardly ever the same


@FEW
@given(candidates=any_candidates(), seed=st.integers(0, 99))
def test_the_pass_depends_on_nothing_else(candidates: Candidates, seed: int) -> None:
    first = draw_pass(candidates, seed=seed, pass_index=3)
    random.seed(1)
    torch.manual_seed(1)
    draw_pass(candidates, seed=seed + 1, pass_index=0)
    draw_uniform(seed=seed)
    assert draw_pass(candidates, seed=seed, pass_index=3) == first
    # other operations alive, the same places in the order
    num_candidates = candidates.num_candidates
    other = Candidates((OPERATIONS[-num_candidates:],) * 14, (OPERATIONS[-num_candidates:],) * 14)

    def places(draws: list[Genotype], of: Candidates) -> list[list[int]]:
        return [
            [
                alive.index(op)
                for kind in CELL_KINDS
                for op, alive in zip(draw.cells()[kind], of.cells()[kind], strict=True)
            ]
            for draw in draws
        ]

    assert places(draw_pass(other, seed=seed, pass_index=3), other) == places(first, candidates)


def test_the_first_draw_is_pinned() -> None:
    """A change here changes every published search."""
    first = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)[0]
    short = [OPERATIONS.index(op) for op in first.normal], [OPERATIONS.index(op) for op in first.reduce]
    assert short == ([4, 2, 3, 4, 4, 1, 5, 3, 7, 6, 2, 5, 2, 0], [5, 5, 4, 3, 6, 1, 7, 7, 5, 5, 7, 3, 2, 2])


def critical_chi_square(degrees: int) -> float:
    """What chance exceeds about once in 30,000 (Wilson and Hilferty's approximation at 4 deviations)."""
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + 4 * math.sqrt(spread)) ** 3


def chi_square(counts: Counter[tuple[str, ...]], num_outcomes: int) -> float:
    expected = counts.total() / num_outcomes
    unseen = num_outcomes - len(counts)
    return sum((count - expected) ** 2 / expected for count in counts.values()) + unseen * expected


def all_ops(genotype: Genotype) -> tuple[str, ...]:
    return genotype.normal + genotype.reduce


def first_draws() -> Iterator[Genotype]:
    return (draw_pass(ALL_CANDIDATES, seed=seed, pass_index=seed % 3)[seed % 8] for seed in range(2000))


def uniform_draws() -> Iterator[Genotype]:
    return (draw_uniform(seed=number // 4, draw=number % 4) for number in range(4000))


@pytest.mark.parametrize("genotypes", [first_draws, uniform_draws])
def test_draws_are_uniform_on_every_edge_and_independent(genotypes: Callable[[], Iterator[Genotype]]) -> None:
    drawn = [all_ops(genotype) for genotype in genotypes()]
    for edge in range(28):
        assert chi_square(Counter((ops[edge],) for ops in drawn), 8) < critical_chi_square(7)
    for one, other in [(0, 1), (0, 14), (12, 13), (13, 14), (5, 20), (26, 27)]:
        assert chi_square(Counter((ops[one], ops[other]) for ops in drawn), 64) < critical_chi_square(63)


# ---------------------------------------------------------------- random genotypes


def test_a_uniform_draw_depends_on_seed_and_draw_only() -> None:
    first = draw_uniform(seed=5, draw=1)
    random.seed(0)
    torch.manual_seed(0)
    draw_uniform(seed=6)
    assert draw_uniform(seed=5, draw=1) == first
    assert draw_uniform(seed=5) == draw_uniform(seed=5, draw=0)
    assert len({draw_uniform(seed=seed, draw=draw) for seed in range(10) for draw in range(10)}) == 100
    assert all(draw_uniform(seed=seed).normal != draw_uniform(seed=seed).reduce for seed in range(10))


def test_a_disconnected_cell_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """By chance a cell is disconnected once in 8^8 draws, so the numbers are given here."""
    sep = OPERATIONS.index("sep_conv_3x3") / 8
    from_inputs = [source < 2 for source, _ in EDGES]
    all_none = [0.0] * 14
    inner_only = [0.0 if from_input else sep for from_input in from_inputs]
    one_input = [sep if edge == (1, 5) else 0.0 for edge in EDGES]
    numbers = iter([*all_none, *inner_only, *one_input, *inner_only, *all_none, *[sep] * 14])

    class Scripted:
        def random(self) -> float:
            return next(numbers)

    monkeypatch.setattr(space, "python_generator", lambda *_: Scripted())
    genotype = draw_uniform(seed=0)
    assert genotype.normal == tuple("sep_conv_3x3" if edge == (1, 5) else NONE for edge in EDGES)
    assert genotype.reduce == ("sep_conv_3x3",) * 14
    assert next(numbers, None) is None


def test_uniform_draws_are_connected() -> None:
    assert all(reached(cell) - {0, 1} for g in uniform_draws() for cell in (g.normal, g.reduce))


# ---------------------------------------------------------------- checking a cell


def test_check_cell_returns_the_cell() -> None:
    ops = list(draw_uniform(seed=3).normal)
    assert check_cell(ops, kind="normal") == tuple(ops)


@pytest.mark.parametrize("num_edges", [0, 13, 15])
def test_check_cell_counts_the_edges(num_edges: int) -> None:
    with pytest.raises(GenotypeError, match=f"the reduce cell has {num_edges} edges; expected 14"):
        check_cell(["skip_connect"] * num_edges, kind="reduce")


@pytest.mark.parametrize(("index", "edge"), [(0, "0->2"), (4, "2->3"), (13, "4->5")])
@pytest.mark.parametrize("op", ["conv_3x3", "", "None", "sep_conv_3x3 "])
def test_check_cell_names_the_unknown_operation_its_edge_and_the_choices(index: int, edge: str, op: str) -> None:
    ops = ["skip_connect"] * 14
    ops[index] = op
    with pytest.raises(GenotypeError) as caught:
        check_cell(ops, kind="normal")
    message = str(caught.value)
    assert f"unknown operation {op!r} on edge {edge} of the normal cell" in message
    assert all(known in message for known in OPERATIONS)


def test_check_cell_refuses_a_disconnected_cell() -> None:
    inner_only = [NONE if source < 2 else "sep_conv_3x3" for source, _ in EDGES]
    for ops in (inner_only, [NONE] * 14):
        with pytest.raises(GenotypeError, match="the reduce cell is disconnected"):
            check_cell(ops, kind="reduce")
    for index in INPUT_EDGES:  # one connection is enough
        ops = list(inner_only)
        ops[index] = "skip_connect"
        assert check_cell(ops, kind="reduce") == tuple(ops)
