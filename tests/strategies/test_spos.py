"""Single path one-shot: what evolves, what a step trains, and a search that was stopped anywhere."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_budgets import TIGHT, file_size
from test_every_strategy import make_config, make_search, search_whole, tensors_of, without_seconds

from cpnas_cli.errors import CheckpointError, MaxTimeReached, UsageError
from cpnas_cli.networks.network import Network
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import CELL_KINDS, EDGES, NONE, OPERATIONS, Genotype, draw_uniform
from cpnas_cli.settings import load_config
from cpnas_cli.storage.genotype_file import parse_genotype
from cpnas_cli.strategies import run_search, strategy_named
from cpnas_cli.strategies.checks import check_search
from cpnas_cli.strategies.one_shot.shared_child import Score, SharedChild
from cpnas_cli.strategies.spos.evolution import bred, crossed, fittest, mutated, new_one
from cpnas_cli.strategies.spos.state import SposState

SPOS = strategy_named("spos")
NUM_EDGES = 28
INPUT_EDGES = [index for index, (source, _) in enumerate(EDGES) if source < 2]


def drawn(count: int, *, seed: int = 0) -> list[Genotype]:
    return [draw_uniform(seed=seed, draw=draw) for draw in range(count)]


def flat(genotype: Genotype) -> tuple[str, ...]:
    return genotype.normal + genotype.reduce


def genotype_of(record: dict[str, Any]) -> Genotype:
    return Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"]))


def is_whole(genotype: Genotype) -> bool:
    return all(any(cell[index] != NONE for index in INPUT_EDGES) for cell in genotype.cells().values())


# ---------------------------------------------------------------- mutation and crossover


@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
def test_a_mutation_changes_edges_at_the_rate(probability: float) -> None:
    """Each edge by itself, within five deviations of a binomial; so the number of changes has its mean and spread."""
    (parent,) = drawn(1)
    generator, count = random.Random(3), 4000
    changes = Counter[int]()
    numbers: list[int] = []
    for _ in range(count):
        child = flat(mutated(parent, probability, generator))
        changed = [edge for edge, (new, old) in enumerate(zip(child, flat(parent), strict=True)) if new != old]
        changes.update(changed)
        numbers.append(len(changed))
    deviation = math.sqrt(count * probability * (1 - probability))
    assert all(abs(changes[edge] - probability * count) <= 5 * deviation for edge in range(NUM_EDGES))
    spread = sum((number - NUM_EDGES * probability) ** 2 for number in numbers) / count
    assert spread == pytest.approx(NUM_EDGES * probability * (1 - probability), rel=0.15)


def test_what_an_edge_becomes_is_any_other_operation() -> None:
    (parent,) = drawn(1)
    generator = random.Random(0)
    children = [flat(mutated(parent, 1.0, generator)) for _ in range(1400)]
    for edge, old in enumerate(flat(parent)):
        counts = Counter(child[edge] for child in children)
        assert set(counts) == set(OPERATIONS) - {old}
        assert all(abs(number - 200) < 5 * math.sqrt(200 * 6 / 7) for number in counts.values())


def test_a_crossover_takes_from_both_parents_and_nothing_else() -> None:
    first, second = (Genotype(normal=(op,) * 14, reduce=(op,) * 14) for op in ("skip_connect", "sep_conv_3x3"))
    generator = random.Random(1)
    children = [flat(crossed(first, second, generator)) for _ in range(1000)]
    for edge in range(NUM_EDGES):
        counts = Counter(child[edge] for child in children)
        assert set(counts) == {"skip_connect", "sep_conv_3x3"}
        assert abs(counts["skip_connect"] - 500) < 5 * math.sqrt(250)
    together = Counter((child[0], child[20]) for child in children)  # the edges are tossed one by one
    assert all(abs(number - 250) < 5 * math.sqrt(250 * 3 / 4) for number in together.values())
    assert len(together) == 4


def test_two_different_parents_are_crossed_each_as_often() -> None:
    parents = [Genotype(normal=(op,) * 14, reduce=(op,) * 14) for op in OPERATIONS[1:5]]
    generator = random.Random(2)
    pairs = Counter(
        frozenset(flat(bred(parents, mutates=False, probability=0.1, generator=generator))) for _ in range(1200)
    )
    assert set(pairs) == set(map(frozenset, itertools.combinations(OPERATIONS[1:5], 2)))
    assert all(abs(number - 200) < 5 * math.sqrt(200 * 5 / 6) for number in pairs.values())


def test_one_parent_alone_is_mutated() -> None:
    parents = drawn(1)
    children = {bred(parents, mutates=False, probability=0.5, generator=random.Random(n)) for n in range(20)}
    assert len(children) == 20


# ---------------------------------------------------------------- who the parents are


def test_the_fittest_are_the_best_without_doubles_and_of_equals_the_first() -> None:
    a, b, c, d = drawn(4)
    assert fittest([a, b, c, d], [0.1, 0.4, 0.4, 0.2], 3) == [b, c, d]
    assert fittest([a, b, a, c], [0.9, 0.5, 0.9, 0.1], 2) == [a, b]
    assert fittest([a, b], [0.1, 0.2], 5) == [b, a]


def state_after(count: int, *overrides: str) -> SposState:
    """Of a search in which the n-th architecture has the score 7 n modulo 13."""
    state = SposState(make_config(SPOS, *overrides).spos)
    for epoch in range(state.settings.num_epochs):
        assert state.trains
        state.give({"event": "epoch", "epoch": epoch})
    for number, genotype in enumerate(drawn(count)):
        cells = {kind: list(cell) for kind, cell in genotype.cells().items()}
        state.give({"event": "draw", **cells, "z": (7 * number) % 13 / 13})
    return state


def test_generations_follow_each_other() -> None:
    settings = ("spos.num_scored=14", "spos.num_parents=4")
    found = [(state.generation, state.place) for state in (state_after(count, *settings) for count in range(14))]
    assert found == [(0, n) for n in range(4)] + [(1, n) for n in range(4)] + [(2, n) for n in range(4)] + [
        (3, 0),
        (3, 1),
    ]  # fmt: skip
    assert [state_after(count, *settings).finished for count in (0, 13, 14)] == [False, False, True]
    thirds = [state_after(count, "spos.num_scored=30", "spos.num_parents=4") for count in (9, 10, 13, 14)]
    assert [(state.generation, state.place) for state in thirds] == [(0, 9), (1, 0), (1, 3), (2, 0)]


def test_parents_are_the_best_before_their_children() -> None:
    """Those born in the same generation are none, so that it does not matter how many are committed at once."""
    everybody, settings = drawn(14), ("spos.num_scored=30", "spos.num_parents=4")
    # scores in thirteenths of numbers 0 to 13: 0 7 1 8 2 9 3 10 4 11 | 5 12 6 0
    for count in (10, 11, 13):
        assert state_after(count, *settings).parents() == [everybody[number] for number in (9, 7, 5, 3)]
    assert state_after(14, *settings).parents() == [everybody[number] for number in (11, 9, 7, 5)]
    assert state_after(14, *settings).best() == everybody[11]


# ---------------------------------------------------------------- what may be scored


def repeated(genotypes: Sequence[Genotype]) -> Any:
    """A way that makes these, one after the other, again and again."""
    return itertools.cycle(genotypes).__next__


def test_what_is_scored_is_new_connected_and_admitted() -> None:
    old, heavy, new, last = drawn(4)
    alone = Genotype(normal=(NONE,) * 14, reduce=old.reduce)
    ways = (repeated([old, alone, heavy, new]), repeated([last]))
    assert new_one({old}, ways, admits=lambda genotype: genotype != heavy) == new
    assert new_one({old}, ways[:1]) == heavy
    assert new_one({old, heavy, new}, ways) == last  # nothing new can be bred: drawn
    assert new_one({old, heavy, new, last}, ways) == last  # nor drawn


# ---------------------------------------------------------------- whole searches

EVOLVING = ("spos.num_scored=60", "spos.num_parents=6", "spos.num_epochs=1")


def planted_worth(seed: int) -> dict[str, list[dict[str, float]]]:
    generator = random.Random(seed)
    return {kind: [{op: generator.random() for op in OPERATIONS} for _ in EDGES] for kind in CELL_KINDS}


def plant(monkeypatch: pytest.MonkeyPatch, seed: int = 5) -> None:
    """Scores that are sums of what the operations of the edges are worth."""
    worth = planted_worth(seed)

    def score(_: SharedChild, genotype: Genotype) -> Score:
        pairs = itertools.product(CELL_KINDS, range(len(EDGES)))
        return Score(0.5, sum(worth[kind][edge][genotype.cells()[kind][edge]] for kind, edge in pairs) / NUM_EDGES)

    monkeypatch.setattr(SharedChild, "score", score)


def draws_of(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in history if record["event"] == "draw"]


def test_a_search_climbs_and_finds_its_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    whole = search_whole(tmp_path, SPOS, *EVOLVING)
    draws = draws_of(whole.history)
    assert len({genotype_of(record) for record in draws}) == len(draws) == 60
    assert all(is_whole(genotype_of(record)) for record in draws)
    best = max(draws, key=lambda record: record["z"])
    assert whole.genotype == genotype_of(best)
    by_generation = [[record["z"] for record in draws if record["generation"] == number] for number in range(8)]
    assert list(map(len, by_generation)) == [20, 6, 6, 6, 6, 6, 6, 4]
    means = [sum(values) / len(values) for values in by_generation]
    spread = math.sqrt(sum((z - means[0]) ** 2 for z in by_generation[0]) / 19)
    assert means[-1] > means[0] + 2 * spread  # of random draws one in 40 is so good, here the mean of a generation
    assert best["z"] > max(by_generation[0])
    counts = Counter(op for record in draws[:16] for op in [record["normal"][3]])
    assert set(counts.values()) == {2}  # the random ones: every operation of an edge as often


def test_children_are_of_the_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even places are mutations: with a probability so small, of one edge of a parent. The others are crossovers."""
    plant(monkeypatch)
    whole = search_whole(tmp_path, SPOS, *EVOLVING, "spos.mutation_probability=0.001")
    draws = draws_of(whole.history)
    for number, record in enumerate(draws):
        if record["generation"] == 0:
            continue
        earlier = [each for each in draws[:number] if each["generation"] < record["generation"]]
        parents = [flat(genotype_of(each)) for each in sorted(earlier, key=lambda each: -each["z"])[:6]]
        child = flat(genotype_of(record))
        distances = [sum(new != old for new, old in zip(child, parent, strict=True)) for parent in parents]
        if record["draw"] % 2 == 0 and min(distances) == 1:
            continue
        assert record["draw"] % 2 == 1 or min(distances) > 5  # seldom so: bred in vain, then drawn
        if record["draw"] % 2 == 1:
            assert any(
                all(op in pair for op, *pair in zip(child, *two, strict=True))
                for two in itertools.combinations(parents, 2)
            )


def test_stopped_anywhere_it_goes_on_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, in the random draws, within a generation and between two; in parts that cut generations."""
    overrides = ("spos.num_scored=13", "spos.num_parents=4", "search.batch_size=5", "search.momentum=0.9")
    whole = search_whole(tmp_path / "whole", SPOS, *overrides)
    monkeypatch.setattr("cpnas_cli.strategies.one_shot.search.SCORED_PER_COMMIT", 3)
    num_stops, genotype, run = 0, None, RunFolder(tmp_path / "run")
    while genotype is None:
        try:
            genotype = SPOS.search(make_search(run.path, SPOS, *overrides, deadline=Deadline(0.0)))
        except MaxTimeReached:
            num_stops += 1
            with run.file(RunFolder.HISTORY).open("a") as file:
                file.write('{"event": "dr')
    assert num_stops == 2 + 5 - 1  # epochs and parts; the last ends it
    assert genotype == whole.genotype
    assert without_seconds(run.history()) == without_seconds(whole.history)
    assert tensors_of(run) == whole.tensors()


def test_each_step_trains_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many forward passes as steps, each of another architecture, connected; the weights of others stay."""
    seen: list[Genotype] = []
    original = Network.forward

    def forward(self: Network, x_BCHW: torch.Tensor, genotype: Genotype) -> Any:
        if torch.is_grad_enabled():
            seen.append(genotype)
        return original(self, x_BCHW, genotype)

    monkeypatch.setattr(Network, "forward", forward)
    whole = search_whole(tmp_path, SPOS, "search.batch_size=2", "spos.num_scored=2")
    assert len(seen) == whole.num_steps == 2 * 5
    assert len(set(seen)) == 10
    assert all(map(is_whole, seen))
    scored = {genotype_of(record) for record in draws_of(whole.history)}
    assert not scored & set(seen)


def test_what_it_trains_and_scores_is_within_the_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the final cells and channels, where the shared network has others; by the files, not by the table."""
    plant(monkeypatch)  # the worth knows nothing of bytes
    final = ("network.num_channels=4", "search.num_channels=8", "search.num_cells=4", TIGHT[0])
    trained: list[Genotype] = []
    original = SharedChild.train

    def train(self: SharedChild, draw: Any, **named: Any) -> Any:
        def drawing(generator: random.Random) -> Any:
            trained.extend(found := draw(generator))
            return found

        return original(self, drawing, **named)

    monkeypatch.setattr(SharedChild, "train", train)
    search = make_search(tmp_path / "run", SPOS, *EVOLVING, *final, "search.batch_size=2")
    document = run_search(search)
    draws = draws_of(search.run.history())
    assert len(draws) == len({genotype_of(record) for record in draws}) == 60
    assert len(trained) == 5
    for genotype in [*trained, *map(genotype_of, draws), parse_genotype(document)]:
        assert file_size(genotype, tmp_path) <= 4.4 * 1024
    reported = document["provenance"]["budgets"]["max_size"]
    assert reported["found"] == file_size(parse_genotype(document), tmp_path)
    sizes = [file_size(genotype, tmp_path) for genotype in drawn(10)]
    assert max(sizes) > 4.4 * 1024  # so that the budget binds


def test_the_least_budget_that_can_be_had_is_kept(tmp_path: Path) -> None:
    """As it is said where less is asked for; nearly everything that is bred or drawn is beyond it."""
    refused = make_search(tmp_path / "refused", SPOS, "search.max_ops=1")
    with pytest.raises(UsageError) as caught:
        check_search(refused.config, refused.dataset, None)
    least = str(caught.value).split("takes ")[1].split(";")[0].split()
    amount = f"{float(least[0]) * 1.0001:.6f}{'' if len(least) == 1 else least[1][0]}"
    search = make_search(tmp_path / "run", SPOS, f"search.max_ops={amount}", "spos.num_scored=3")
    check_search(search.config, search.dataset, None)
    document = run_search(search)
    reported = document["provenance"]["budgets"]["max_ops"]
    assert 0.999 * reported["limit"] <= reported["found"] <= reported["limit"]
    assert is_whole(parse_genotype(document))
    assert len(draws_of(search.run.history())) == 3


# ---------------------------------------------------------------- what is refused


def test_fewer_scores_than_parents_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=["spos.num_scored=9"])
    message = str(caught.value)
    assert message.startswith("spos.num_scored=9 must be spos.num_parents=20 or more")
    assert "\n" not in message
    advice = message.split("--set ")[1].split(";")[0]
    assert load_config(overrides=["spos.num_scored=9", advice]).spos.num_scored == 9


def test_a_checkpoint_of_another_strategy_is_refused(tmp_path: Path) -> None:
    """The two keep the same tensors under the same names."""
    other = strategy_named("fair")
    with pytest.raises(MaxTimeReached):
        other.search(make_search(tmp_path, other, deadline=Deadline(0.0)))
    with pytest.raises(CheckpointError, match="spos-checkpoint"):
        SPOS.search(make_search(tmp_path, SPOS))
