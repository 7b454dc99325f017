"""Choices, draws and abandoning within budgets, against brute force and a knapsack; and what every strategy keeps."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_every_strategy import TINY, digits, make_search

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.deploy.packed_file import save_packed
from cpnas_cli.deploy.untrained import untrained_model
from cpnas_cli.errors import MaxTimeReached, UsageError
from cpnas_cli.randomness import python_generator
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    INPUT_EDGES,
    NONE,
    NUM_EDGES,
    NUM_OPERATIONS,
    OPERATIONS,
    Candidates,
    Genotype,
    draw_uniform,
    is_connected,
)
from cpnas_cli.settings import SearchConfig, load_config
from cpnas_cli.storage.genotype_file import parse_genotype
from cpnas_cli.strategies import run_search, strategies, strategy_named
from cpnas_cli.strategies.base import Search, Strategy
from cpnas_cli.strategies.budgets.choice import best_choice
from cpnas_cli.strategies.budgets.demand import SHAPE, Demand, chosen_of, genotype_at
from cpnas_cli.strategies.budgets.feasibility import Feasibility, feasibility_of
from cpnas_cli.strategies.budgets.resource import Budget, resource_of
from cpnas_cli.strategies.checks import check_search
from cpnas_cli.strategies.cpnas.branching import reread
from cpnas_cli.strategies.cpnas.state import SearchState

NOTHING = np.zeros(SHAPE)
NO_NODES = np.zeros((2, 4))


def demand_at(edges: np.ndarray, *, fixed: float = 0.0, nodes: np.ndarray = NO_NODES) -> Demand:
    return Demand(fixed, edges, NOTHING, nodes)


def feasibility(*budgets: tuple[Demand, float], num_incoming: int | None = None) -> Feasibility:
    """Budgets of bytes."""
    size = resource_of("max_size")
    return Feasibility(tuple(Budget(size, f"{limit}B", demand) for demand, limit in budgets), num_incoming)


# ---------------------------------------------------------------- the program


@pytest.mark.parametrize("num_incoming", [None, 1])
@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_best_of_all(seed: int, num_incoming: int | None) -> None:
    """Seven edges with two operations each, the others without: every one of 2^7 choices is looked at."""
    generator = np.random.default_rng(seed)
    free = [(0, 0), (0, 1), (0, 3), (0, 6), (1, 1), (1, 2), (1, 13)]
    alternatives = {place: int(generator.integers(1, NUM_OPERATIONS)) for place in free}
    score, nodes = generator.random(SHAPE), generator.integers(0, 5, (2, 4))
    edges = generator.integers(1, 20, SHAPE) * (np.arange(NUM_OPERATIONS) != 0)
    other = generator.integers(1, 20, SHAPE) * (np.arange(NUM_OPERATIONS) != 0)
    allowed = np.zeros(SHAPE, bool)
    allowed[:, :, 0] = True
    # so that every node can be entered once, and must be
    fixed_edges = [(kind, EDGES.index(edge)) for kind in range(2) for edge in [(0, 3), (0, 4), (0, 5)]]
    if num_incoming:
        for kind, edge in fixed_edges:
            allowed[kind, edge] = np.arange(NUM_OPERATIONS) == 1
        free = [(0, 0), (0, 1), (1, 0), (1, 1)]
        alternatives = {place: int(generator.integers(1, NUM_OPERATIONS)) for place in free}
    for place, op in alternatives.items():
        allowed[place][op] = True
    limits = [
        (demand_at(edges.astype(float), fixed=7, nodes=nodes.astype(float)), 50.0),
        (demand_at(other.astype(float)), 45.0),
    ]
    if num_incoming:
        limits = [(demand, 3 * limit) for demand, limit in limits]

    def cost(chosen: np.ndarray, each: np.ndarray, per_node: np.ndarray) -> float:
        total = float((chosen * each).sum())
        for kind in range(2):
            reached = {target for edge, (_, target) in enumerate(EDGES) if chosen[kind, edge, 0] == 0}
            total += sum(per_node[kind, node - 2] for node in reached)
        return total

    best = -math.inf
    for picks in itertools.product([0, 1], repeat=len(free)):
        chosen = np.zeros(SHAPE)
        chosen[:, :, 0] = 1
        if num_incoming:
            for place in fixed_edges:
                chosen[place] = np.arange(NUM_OPERATIONS) == 1
        for place, pick in zip(free, picks, strict=True):
            if pick:
                chosen[place] = np.arange(NUM_OPERATIONS) == alternatives[place]
        cells = genotype_at(chosen).cells().values()
        if not all(map(is_connected, cells)):
            continue
        if num_incoming and any(
            sum(op != NONE for op, (_, target) in zip(cell, EDGES, strict=True) if target == node) != 1
            for cell in cells
            for node in range(2, 6)
        ):
            continue
        scale = 3 if num_incoming else 1
        if 7 + cost(chosen, edges, nodes) <= 50 * scale and cost(chosen, other, NO_NODES) <= 45 * scale:
            best = max(best, float((score * chosen).sum()))
    found = best_choice(score, allowed, limits, num_incoming=num_incoming)
    if best == -math.inf:
        assert found is None
    else:
        assert found is not None
        assert float((score * found.chosen).sum()) == pytest.approx(best)
        assert cost(found.chosen, other, NO_NODES) <= 45 * (3 if num_incoming else 1)


def knapsack(options: Sequence[Sequence[tuple[int, float]]], limit: int) -> float:
    """The largest sum of values, one option (cost, value) of each, whose costs add up to at most the limit."""
    best = [0.0] * (limit + 1)
    for each in options:
        best = [
            max((best[room - cost] + value for cost, value in each if cost <= room), default=-math.inf)
            for room in range(limit + 1)
        ]
    return best[limit]


def random_round(seed: int, num_candidates: int) -> tuple[dict[str, list[dict[str, float]]], np.ndarray]:
    """Evaluations of so many candidates on every edge, none of them `none`, and whole costs of all operations."""
    generator = np.random.default_rng(seed)
    evaluations = {}
    for kind in CELL_KINDS:
        evaluations[kind] = [
            dict(zip(
                generator.choice(OPERATIONS[1:], num_candidates, replace=False).tolist(),
                generator.dirichlet(np.full(num_candidates, 30)).tolist(),
                strict=True,
            ))
            for _ in EDGES
        ]  # fmt: skip
    return evaluations, generator.integers(1, 12, SHAPE)


def weakest_of(evaluations: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, list[str]]:
    return {kind: [min(edge, key=lambda op: edge[op]) for edge in evaluations[kind]] for kind in CELL_KINDS}


def cost_at(costs: np.ndarray, kind: str, edge: int, op: str) -> int:
    return int(costs[CELL_KINDS.index(kind), edge, OPERATIONS.index(op)])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_candidates", [2, 3, 5])
def test_what_is_abandoned_loses_the_least_that_keeps_a_budget(seed: int, num_candidates: int) -> None:
    """Against a knapsack: with two candidates of the last choice, with more of the cheapest that stay."""
    evaluations, costs = random_round(seed, num_candidates)
    places = [(kind, edge) for kind in CELL_KINDS for edge in range(NUM_EDGES)]
    cheapest = sum(min(cost_at(costs, *place, op) for op in evaluations[place[0]][place[1]]) for place in places)
    limit = cheapest + 8
    options = [
        [
            (min(cost_at(costs, kind, edge, op) for op in evaluations[kind][edge] if op != gone), -value)
            for gone, value in evaluations[kind][edge].items()
        ]
        for kind, edge in places
    ]
    weakest = weakest_of(evaluations)
    abandoned = feasibility((demand_at(costs.astype(float)), limit)).abandon(evaluations, weakest)
    lost = sum(evaluations[kind][edge][abandoned[kind][edge]] for kind, edge in places)
    assert lost == pytest.approx(-knapsack(options, limit))
    assert abandoned != {kind: tuple(weakest[kind]) for kind in CELL_KINDS} or num_candidates > 2
    left = sum(
        min(cost_at(costs, kind, edge, op) for op in evaluations[kind][edge] if op != abandoned[kind][edge])
        for kind, edge in places
    )
    assert left <= limit
    loose = feasibility((demand_at(costs.astype(float)), 10_000)).abandon(evaluations, weakest)
    assert loose == {kind: tuple(weakest[kind]) for kind in CELL_KINDS}


def test_the_last_choice_is_connected_where_none_is_cheapest() -> None:
    evaluations = {kind: [{NONE: 0.9, "sep_conv_3x3": 0.1}] * NUM_EDGES for kind in CELL_KINDS}
    edges = np.zeros(SHAPE)
    edges[:, :, OPERATIONS.index("sep_conv_3x3")] = 1
    abandoned = feasibility((demand_at(edges), 2)).abandon(evaluations, weakest_of(evaluations))
    for kind in CELL_KINDS:
        kept = [edge for edge in range(NUM_EDGES) if abandoned[kind][edge] == NONE]
        assert len(kept) == 1
        assert kept[0] in INPUT_EDGES


# ---------------------------------------------------------------- draws


def tiny_feasibility(*overrides: str, num_incoming: int | None = None) -> Feasibility:
    config = load_config(overrides=[*TINY, *overrides])
    search: Any = SimpleNamespace(config=config, dataset=digits())
    found = feasibility_of(search, num_incoming=num_incoming)
    assert found is not None
    return found


def test_draws_are_within_the_budgets_connected_and_different() -> None:
    within = tiny_feasibility("search.max_size=4.2KiB", "search.max_ops=9k")
    drawn = [within.draw(seed=1, draw=draw) for draw in range(20)]
    assert len(set(drawn)) == 20
    for genotype in drawn:
        assert all(map(is_connected, genotype.cells().values()))
        assert all(
            budget.resource.found(genotype, load_config(overrides=TINY), digits()) <= budget.limit
            for budget in within.budgets
        )
    assert not any(map(within.admits, [draw_uniform(seed=1, draw=draw) for draw in range(20)]))  # they do bind


def test_a_loose_budget_draws_what_none_does() -> None:
    within = tiny_feasibility("search.max_size=1MiB")
    assert [within.draw(seed=2, draw=draw) for draw in range(5)] == [draw_uniform(seed=2, draw=d) for d in range(5)]


def test_the_preset_of_a_megabyte_keeps_it() -> None:
    """cifar10-mobile: random genotypes fit, one of the largest convolution on every edge does not."""
    images = ImageSet(torch.zeros(10, 3, 32, 32, dtype=torch.uint8), torch.arange(10))
    dataset = Dataset(images, images, tuple("abcdefghij"), mean=(0.5,) * 3, std=(0.5,) * 3)
    search: Any = SimpleNamespace(config=load_config("cifar10-mobile"), dataset=dataset)
    within = feasibility_of(search)
    assert within is not None
    assert [budget.limit for budget in within.budgets] == [1_000_000]
    assert all(within.admits(draw_uniform(seed=0, draw=draw)) for draw in range(10))
    heavy = ("sep_conv_5x5",) * NUM_EDGES
    assert not within.admits(Genotype(normal=heavy, reduce=heavy))


def test_a_repaired_draw_is_of_the_candidates(tmp_path: Path) -> None:
    two = ("avg_pool_3x3", "dil_conv_5x5")
    one = tuple(two[1] if edge == 1 else NONE for edge in range(NUM_EDGES))
    least = file_size(Genotype(normal=(two[0],) * NUM_EDGES, reduce=one), tmp_path)
    within = tiny_feasibility(f"search.max_size={least + 300}B")
    candidates = Candidates(normal=(two,) * NUM_EDGES, reduce=(("none", *two[1:]),) * NUM_EDGES)
    for number in range(5):
        drawn = Genotype(normal=(two[1],) * NUM_EDGES, reduce=(two[1],) * NUM_EDGES)
        genotype = within.repaired(drawn, candidates, python_generator(0, "test", number))
        assert within.admits(genotype)
        assert not within.admits(drawn)
        for kind, cell in genotype.cells().items():
            assert all(op in alive for op, alive in zip(cell, candidates.cells()[kind], strict=True))
            assert is_connected(cell)
        assert within.repaired(genotype, ALL_CANDIDATES, python_generator(0, "test")) is genotype


def test_where_only_the_cheapest_is_left_a_repair_finds_it() -> None:
    """Every edge must have a skip, but for the one that must not: random changes alone could miss it."""
    edges = np.full(SHAPE, 5.0)
    for kind, edge in itertools.product(range(2), range(NUM_EDGES)):
        edges[kind, edge, (kind + edge) % NUM_OPERATIONS] = 1
    drawn = draw_uniform(seed=0)
    genotype = feasibility((demand_at(edges), 28)).repaired(drawn, ALL_CANDIDATES, python_generator(0, "test"))
    expected = [OPERATIONS[(kind + edge) % NUM_OPERATIONS] for kind in range(2) for edge in range(NUM_EDGES)]
    assert [*genotype.normal, *genotype.reduce] == expected


# ---------------------------------------------------------------- what cannot be met


def check(*overrides: str, strategy: str = "random") -> None:
    check_search(load_config(overrides=[*TINY, f"search.strategy={strategy}", *overrides]), digits(), None)


def file_size(genotype: Genotype, folder: Path, *overrides: str) -> int:
    save_packed(untrained_model(genotype, load_config(overrides=[*TINY, *overrides]), digits()), folder / "model")
    return (folder / "model").stat().st_size


def test_the_smallest_is_said_and_can_be_had(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^--max-size 2KiB: the smallest network .* takes (.*) KiB; ask for"
    ) as caught:
        check("search.max_size=2KiB")
    said = float(str(caught.value).split("takes ")[1].split(" KiB")[0])
    # one connection in each cell, and nothing costs less than a skip at stride 1 or a mean over pixels
    smallest = Genotype(
        **{kind: tuple("skip_connect" if edge == 1 else NONE for edge in range(NUM_EDGES)) for kind in CELL_KINDS}
    )
    assert said == pytest.approx(file_size(smallest, tmp_path) / 1024, abs=0.05)
    check(f"search.max_size={said + 0.01}KiB")
    assert str(caught.value).count("\n") == 0


def test_of_pcdarts_the_smallest_has_two_edges_into_every_node() -> None:
    with pytest.raises(UsageError, match="--max-size") as caught:
        check("search.max_size=2KiB", strategy="pcdarts")
    said = str(caught.value).split("takes ")[1].split(" KiB")[0]
    check(f"search.max_size={float(said) - 0.1}KiB")
    with pytest.raises(UsageError):
        check(f"search.max_size={float(said) - 0.1}KiB", strategy="pcdarts")
    check(f"search.max_size={float(said) + 0.01}KiB", strategy="pcdarts")


def test_budgets_that_exclude_each_other_are_refused() -> None:
    """One forbids skips, the other everything but them; each alone can be kept."""
    skips = (np.arange(NUM_OPERATIONS) == 1) + np.zeros(SHAPE)
    others = (np.arange(NUM_OPERATIONS) > 1) + np.zeros(SHAPE)
    both = feasibility((demand_at(skips + 0.001 * others), 1), (demand_at(others), 1))
    with pytest.raises(UsageError, match="keeps --max-size 1B and --max-size 1B together"):
        both.check()
    feasibility(both.budgets[0] and (both.budgets[0].demand, 1)).check()


def test_a_strategy_that_keeps_none_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(strategy_named("random")), "keeps_budgets", property(lambda _: False), raising=False)
    object.__setattr__(strategy_named("random"), "__dict__", {**vars(strategy_named("random"))})
    with pytest.raises(UsageError, match=r"random keeps no budget, got --max-ops; use --strategy with one of cpnas"):
        check("search.max_ops=5M")


# ---------------------------------------------------------------- whole searches

TIGHT = ("search.max_size=4.4KiB", "search.max_ops=9.5k")


def budgeted(strategy: Strategy) -> Any:
    is_slow = strategy.num_units(load_config(overrides=TINY)) > 10
    return pytest.param(strategy, id=strategy.name, marks=pytest.mark.slow if is_slow else ())


every_budgeted = pytest.mark.parametrize("strategy", [budgeted(each) for each in strategies() if each.keeps_budgets])


def searched(folder: Path, strategy: Strategy, *overrides: str) -> tuple[Search, dict[str, Any]]:
    search = make_search(folder, strategy, *overrides)
    return search, run_search(search)


def without_times(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


@every_budgeted
def test_what_it_finds_and_trains_is_within_the_budgets(strategy: Strategy, tmp_path: Path) -> None:
    search, document = searched(tmp_path / "run", strategy, *TIGHT)
    reports = document["provenance"]["budgets"]
    assert list(reports) == ["max_size", "max_ops"]
    size = file_size(parse_genotype(document), tmp_path)
    assert reports["max_size"]["found"] == size <= 4.4 * 1024
    assert reports["max_size"]["limit"] == 4.4 * 1024
    assert reports["max_ops"]["predicted"] == pytest.approx(reports["max_ops"]["found"])
    assert reports["max_ops"]["found"] <= 9500
    history = search.run.history()
    assert history[0]["event"] == "budgets"
    drawn = [record for record in history if record["event"] == "draw"]
    for record in drawn:
        genotype = Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"]))
        assert file_size(genotype, tmp_path) <= 4.4 * 1024
    assert [record["event"] for record in history].count("budgets") == 1


@every_budgeted
def test_it_finds_the_same_after_a_stop(strategy: Strategy, tmp_path: Path) -> None:
    whole, document = searched(tmp_path / "whole", strategy, *TIGHT)
    stopped = make_search(tmp_path / "stopped", strategy, *TIGHT, deadline=Deadline(0.0))
    if strategy.num_units(stopped.config) > 1:
        with pytest.raises(MaxTimeReached):
            run_search(stopped)
    again, resumed = searched(tmp_path / "stopped", strategy, *TIGHT)
    assert resumed == document
    assert without_times(again.run.history()) == without_times(whole.run.history())


@every_budgeted
def test_a_budget_that_never_binds_changes_nothing(strategy: Strategy, tmp_path: Path) -> None:
    free, document = searched(tmp_path / "free", strategy)
    loose, same = searched(tmp_path / "loose", strategy, "search.max_size=1MiB", "search.max_ops=1G")
    assert (same["normal"], same["reduce"]) == (document["normal"], document["reduce"])
    assert without_times(loose.run.history()[1:]) == without_times(free.run.history())
    assert "budgets" not in document["provenance"]


def test_budgets_do_not_count_among_the_records_of_a_first_commit(tmp_path: Path) -> None:
    """One epoch alone leaves three records, and a kill before its checkpoint is gone on from."""
    epochs = ("pcdarts.num_epochs=1", "pcdarts.frozen_epochs=0")
    whole, document = searched(tmp_path / "whole", strategy_named("pcdarts"), *TIGHT, *epochs)
    history = whole.run.file("history.jsonl").read_text()
    assert history.count("\n") == 3
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/history.jsonl").write_text(history)
    again, resumed = searched(tmp_path / "killed", strategy_named("pcdarts"), *TIGHT, *epochs)
    assert resumed == document
    assert without_times(again.run.history()) == without_times(whole.run.history())


# ---------------------------------------------------------------- Algorithm 9


def printed(beta_p: float) -> SearchConfig:
    """One pass of the rule as printed."""
    return SearchConfig(beta_p=beta_p, indicator="printed", num_passes=1, credit="draw")


def played(beta_p: float, *, limit: str = "4.4KiB", seed: int = 0) -> list[dict[str, Any]]:
    """The history of a search whose networks are not trained: accuracies follow from the draw."""
    within = tiny_feasibility(f"search.max_size={limit}")
    state, history = SearchState(1, "draw", within), [within.record()]
    while not state.finished:
        genotype = state.draw(seed=seed)
        bits = chosen_of(genotype).ravel()
        child, parent = (float(np.random.default_rng(each).random(bits.size) @ bits / 56 + 0.2) for each in (1, 2))
        z = beta_p * (parent - child) + child
        record = {"event": "draw", "num_candidates": state.candidates.num_candidates, "z": z}
        record |= {"accuracy_child": child, "accuracy_parent": parent if beta_p else None}
        record |= {"normal": list(genotype.normal), "reduce": list(genotype.reduce)}
        history.append(record)
        state.follow(record, [z])
        if state.round_complete:
            history.append(state.abandon())
    return json.loads(json.dumps(history))


def test_a_history_is_read_again_with_its_budgets() -> None:
    """As the search itself would have written it; and as one of another beta_P, up to where they part."""
    history = played(2.0)
    same = reread(history, printed(2.0))
    assert same is not None
    assert same.agrees
    assert list(same.records) == history
    other, real = None, played(0.0)
    for length in range(len(history), 0, -1):
        other = reread(history[:length], printed(0.0))
        if other is not None:
            break
    assert other is not None
    assert not other.agrees
    assert list(other.records) == real[: len(other.records)]


def test_the_budget_decides_and_is_kept_by_every_draw() -> None:
    within = tiny_feasibility("search.max_size=4.4KiB")
    history = played(0.0)
    drawn = [Genotype(tuple(r["normal"]), tuple(r["reduce"])) for r in history if r["event"] == "draw"]
    assert len(drawn) == 35
    assert all(map(within.admits, drawn))
    state = SearchState.replay(history, printed(0.0))
    assert state.finished
    loose = SearchState.replay(played(0.0, limit="1MiB"), printed(0.0))
    assert loose.candidates != state.candidates


def test_an_operation_that_was_never_drawn_counts_as_the_mean() -> None:
    """Of 8 draws without it; of equal ones the costlier goes."""
    within = tiny_feasibility("search.max_size=1MiB")
    state = SearchState(1, "draw", within)
    for number in range(8):
        op = OPERATIONS[min(number + 1, 6)]  # never `none` nor dil_conv_5x5
        state.train(Genotype(normal=(op,) * NUM_EDGES, reduce=(op,) * NUM_EDGES))
        state.give([0.5])
    record = state.abandon()
    assert record["normal"][0]["evaluation"] == pytest.approx(dict.fromkeys(OPERATIONS, 1 / 8))
    # all are equal: the costliest two are the 5x5 ones, of the same size, of which the first goes
    assert {edge["abandoned"] for edge in record["normal"]} == {"sep_conv_5x5"}
