"""What a search of Algorithm 9 may do otherwise: the sign of the gap, when it validates, its credit, with no Parent."""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_every_strategy import make_search, tensors_of, without_seconds
from torch import Tensor

from cpnas_cli.efficiency.estimate import estimate
from cpnas_cli.errors import CheckpointError, MaxTimeReached, UsageError
from cpnas_cli.networks.dataflow import dataflow_of
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.network import Output
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import ALL_CANDIDATES, CELL_KINDS, OPERATIONS, Genotype, draw_pass
from cpnas_cli.settings import SearchConfig
from cpnas_cli.strategies import run_search, strategy_named
from cpnas_cli.strategies.base import Rereading
from cpnas_cli.strategies.cpnas.branching import slope_of
from cpnas_cli.strategies.cpnas.credit import ValidatedDraw, effects_of_all_draws, mean_of_draws
from cpnas_cli.strategies.cpnas.search import journal_of
from cpnas_cli.strategies.cpnas.shared_networks import WARMUP_BATCHES, SharedNetworks
from cpnas_cli.strategies.cpnas.state import SearchState, num_epochs_of_search
from cpnas_cli.training.epoch import evaluate

CPNAS, BNAS = strategy_named("cpnas"), strategy_named("bnas")
FIRST_ROUND = 8

Records = list[dict[str, Any]]


def first_draws(folder: Path, count: int, *overrides: str, name: str = "cpnas", **values: Any) -> Records:
    """The history of a search that is stopped after so many draws, or after the round in which they end."""
    search = make_search(folder, strategy_named(name), *overrides, **values)

    def stop() -> bool:
        return sum(record["event"] == "draw" for record in search.run.history()) >= count

    strategy_named(name).advance(search, stop=stop)
    return without_seconds(search.run.history())


def draws_of(records: Records) -> Records:
    return [record for record in records if record["event"] == "draw"]


# ---------------------------------------------------------------- the sign


@pytest.mark.parametrize("name", ["penalized", "printed"])
def test_z_of_a_search_has_the_sign_of_its_indicator(name: str, tmp_path: Path) -> None:
    for record in draws_of(first_draws(tmp_path, 1, f"search.indicator={name}", "search.beta_p=0.75")):
        gap = record["accuracy_parent"] - record["accuracy_child"]
        sign = {"penalized": -1, "printed": 1}[name]
        assert record["z"] == pytest.approx(record["accuracy_child"] + sign * 0.75 * gap, abs=1e-12)


@pytest.mark.slow
def test_one_search_is_read_again_with_the_other_sign_to_the_last_bit(tmp_path: Path) -> None:
    """Two rounds of one search; the other goes on from where they part, and is what it is alone."""
    settings = ("search.indicator=printed", "search.beta_p=3"), ("search.indicator=penalized", "search.beta_p=0.5")
    alone = [make_search(tmp_path / str(index), CPNAS, *some) for index, some in enumerate(settings)]
    genotypes = [CPNAS.search(search) for search in alone]
    assert genotypes[0] != genotypes[1]
    assert CPNAS.sharing_key(alone[0].config) == CPNAS.sharing_key(alone[1].config)
    leader, follower = (make_search(tmp_path / name, CPNAS, *some) for name, some in zip("ab", settings, strict=True))

    def agrees() -> bool:
        rereading = CPNAS.reread(leader.run.history(), follower.config)
        return rereading is not None and rereading.agrees

    CPNAS.advance(leader, stop=lambda: not agrees())
    rereading = CPNAS.reread(CPNAS.saved_history(leader.run), follower.config)
    assert rereading is not None
    assert not rereading.agrees
    CPNAS.branch(leader.run, follower.run, rereading)
    assert [CPNAS.search(search) for search in (leader, follower)] == genotypes
    for one, other in zip((leader, follower), alone, strict=True):
        assert without_seconds(one.run.history()) == without_seconds(other.run.history())
        assert tensors_of(one.run) == tensors_of(other.run)


# ---------------------------------------------------------------- when a pass is validated


def test_after_a_pass_all_its_draws_are_validated_with_the_weights_at_its_end(tmp_path: Path) -> None:
    """Against networks that are trained by hand, draw by draw, and validated only then."""
    *draws, passed, gone = first_draws(tmp_path / "a", 1, "search.evaluation=after_pass")
    assert [record["event"] for record in draws] == ["draw"] * FIRST_ROUND
    assert (passed["event"], gone["event"]) == ("pass", "abandon")
    assert {record[key] for record in draws for key in ("accuracy_child", "accuracy_parent", "z")} == {None}
    shared = SharedNetworks(make_search(tmp_path / "b", CPNAS))
    genotypes = [Genotype(tuple(record["normal"]), tuple(record["reduce"])) for record in draws]
    for name in ("child", "parent"):
        for draw, genotype in enumerate(genotypes):
            shared.train(name, genotype, draw=draw)
        expected = [shared.validate_draw(genotype, draw=7)[name].accuracy for genotype in genotypes]
        assert passed[f"accuracy_{name}"] == expected
    z = [c - 0.25 * (p - c) for c, p in zip(passed["accuracy_child"], passed["accuracy_parent"], strict=True)]
    assert passed["z"] == pytest.approx(z, abs=1e-12)
    worst = draws[z.index(min(z))]
    assert z.count(min(z)) > 1 or [edge["abandoned"] for edge in gone["normal"]] == worst["normal"]


@pytest.mark.parametrize(
    ("name", "num_passes"),
    [
        ("cpnas", 1),
        ("bnas", 2),
        pytest.param("cpnas", 2, marks=pytest.mark.slow),
        pytest.param("bnas", 1, marks=pytest.mark.slow),
    ],
)
def test_validated_after_a_pass_it_goes_on_the_same_from_every_draw(name: str, num_passes: int, tmp_path: Path) -> None:
    settings = ("search.evaluation=after_pass", f"search.num_passes={num_passes}")
    expected = first_draws(tmp_path / "at once", 1, *settings, name=name)
    assert len(expected) == num_passes * (FIRST_ROUND + 1) + 1
    run = RunFolder(tmp_path / "resumed")
    for _ in range(len(expected) - 2):  # the end of the round is one commit with the pass before it
        with contextlib.suppress(MaxTimeReached):
            strategy_named(name).search(make_search(run.path, strategy_named(name), *settings, deadline=Deadline(0.0)))
        with run.file(RunFolder.HISTORY).open("a") as file:
            file.write('{"event": "pa')
    assert first_draws(run.path, 1, *settings, name=name) == expected
    assert tensors_of(run) == tensors_of(RunFolder(tmp_path / "at once"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpnas", "bnas"])
def test_what_a_search_after_passes_costs_and_finds(name: str, tmp_path: Path) -> None:
    strategy = strategy_named(name)
    search = make_search(tmp_path, strategy, "search.evaluation=after_pass", "search.credit=regression")
    document = run_search(search)
    history = search.run.history()
    assert [record["event"] for record in history].count("pass") == 7
    networks = 1 if name == "bnas" else 2
    cost = strategy.cost(history, num_inherited=8)
    assert (cost.asked, cost.trained) == (networks * 35, networks * 27)
    rereading = strategy.reread(history, search.config)
    assert rereading == Rereading(tuple(history), agrees=True)
    slope = document["provenance"]["parent_slope"]
    if name == "bnas":
        assert slope is None
        assert {record["accuracy_parent"] for record in history if record["event"] == "pass"} == {None}
        return
    passes = [record for record in history if record["event"] == "pass"]
    child, parent = (np.concatenate([one[f"accuracy_{key}"] for one in passes]) for key in ("child", "parent"))
    assert slope == pytest.approx(np.polyfit(child, parent, 1)[0], abs=1e-9)


def test_the_slope_is_that_of_what_the_indicator_is_made_of() -> None:
    """Of probabilities, where the search judges by them; of draws, and of passes."""
    child, parent = [0.2, 0.3, 0.5, 0.4], [0.6, 0.7, 0.75, 0.9]
    accuracies = {"accuracy_child": [0.1, 0.9, 0.5, 0.5], "accuracy_parent": [0.9, 0.1, 0.5, 0.5]}
    at_once = {"event": "pass", **accuracies, "probability_child": child, "probability_parent": parent}
    one_by_one = [
        {
            "event": "draw",
            "accuracy_child": 0.5,
            "accuracy_parent": 0.5,
            "probability_child": a,
            "probability_parent": b,
        }
        for a, b in zip(child, parent, strict=True)
    ]
    expected = pytest.approx(np.polyfit(child, parent, 1)[0], abs=1e-9)
    assert slope_of([at_once]) == expected
    assert slope_of(one_by_one) == expected
    assert slope_of([{**at_once, "probability_child": None, "probability_parent": None}]) == pytest.approx(-1)


# ---------------------------------------------------------------- before the first draw, and what performance is


def test_in_the_warm_up_every_step_has_another_architecture(tmp_path: Path) -> None:
    """As in a pass no candidate of an edge comes again before the others; here an epoch is shorter than a pass."""
    shared = SharedNetworks(make_search(tmp_path, CPNAS, "search.warmup_epochs=2", "search.batch_size=2"))
    assert shared.num_steps == 5
    trained: list[Genotype] = []
    network = shared.networks["child"]
    whole = network.forward

    def watched(x: Tensor, genotype: Genotype) -> Output:
        trained.append(genotype)
        return whole(x, genotype)

    network.forward = watched  # type: ignore[method-assign]
    for epoch in range(2):
        shared.warm_up("child", SearchState(1, num_warmed_up=epoch).warm_up_draws(5, seed=0), epoch=epoch)
    assert len(trained) == len(set(trained)) == 10
    for steps in (trained[:5], trained[5:]):
        for kind in CELL_KINDS:
            assert all(len(set(ops)) == 5 for ops in zip(*(each.cells()[kind] for each in steps), strict=True))


def test_the_warm_up_comes_first_and_its_rate_leads_over_to_that_of_the_draws(tmp_path: Path) -> None:
    settings = ("search.warmup_epochs=2", "search.learning_rate=0.5", "search.learning_rate_min=0.1")
    records = first_draws(tmp_path, 1, *settings)
    assert [(record["event"], record.get("network")) for record in records[:5]] == [
        *[("epoch", "child"), ("epoch", "parent")] * 2,
        ("draw", None),
    ]
    search = make_search(tmp_path / "other", CPNAS, *settings)
    shared = SharedNetworks(search)
    rates = [shared.learning_rate(draw, 0) for draw in range(-2, 35)]
    expected = [0.1 + 0.2 * (1 + math.cos(math.pi * epoch / 37)) for epoch in range(37)]
    assert rates == pytest.approx(expected, rel=1e-9)
    assert CPNAS.cost(records, num_inherited=0).asked == 2 * 2 + 2 * FIRST_ROUND
    assert CPNAS.cost(records, num_inherited=FIRST_ROUND).trained == 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_warm_up_has_one_optimizer(optimizer: str, tmp_path: Path) -> None:
    """The steps of two epochs, taken one by one with an optimizer of PyTorch that knows nothing of epochs."""
    settings = ("search.warmup_epochs=2", f"search.optimizer={optimizer}", "search.batch_size=4")
    search = make_search(tmp_path, CPNAS, *settings)
    config, shared = search.config.search, SharedNetworks(search)
    by_hand = SharedNetworks(search)
    network = by_hand.networks["child"]
    parameters = list(network.parameters())
    rate, decay = config.learning_rate, config.weight_decay
    if optimizer == "sgd":
        steps = torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)
    else:
        steps = torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=True)
    for epoch in range(2):
        drawn = SearchState(1, num_warmed_up=epoch).warm_up_draws(shared.num_steps, seed=0)
        shared.warm_up("child", drawn, epoch=epoch)
        network.set_progress(epoch / 37)
        batches = by_hand.pipeline.training_batches(
            by_hand.training, batch_size=4, seed=search.config.seed, purpose=WARMUP_BATCHES, epoch=epoch
        )
        for step, ((images, labels), genotype) in enumerate(zip(batches, drawn, strict=True)):
            steps.param_groups[0]["lr"] = shared.learning_rate(epoch - 2, step)
            steps.zero_grad()
            torch.nn.functional.cross_entropy(network(images, genotype).logits, labels).backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            steps.step()
    for trained, expected in zip(shared.networks["child"].parameters(), parameters, strict=True):
        assert torch.allclose(trained, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["cpnas", "bnas"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_it_goes_on_the_same_from_every_epoch_of_the_warm_up(name: str, optimizer: str, tmp_path: Path) -> None:
    settings = ("search.warmup_epochs=2", "search.performance=probability", "search.evaluation=after_pass")
    settings = (*settings, "search.scored_passes=1", f"search.optimizer={optimizer}")
    expected = first_draws(tmp_path / "at once", 1, *settings, name=name)
    run = RunFolder(tmp_path / "resumed")
    for _ in range(4):
        with contextlib.suppress(MaxTimeReached):
            strategy_named(name).search(make_search(run.path, strategy_named(name), *settings, deadline=Deadline(0.0)))
    assert len(draws_of(without_seconds(run.history()))) == 2
    assert first_draws(run.path, 1, *settings, name=name) == expected
    assert tensors_of(run) == tensors_of(RunFolder(tmp_path / "at once"))


def test_a_search_without_a_parent_leaves_the_parents_warm_up_out(tmp_path: Path) -> None:
    """Read again at beta_P = 0 it is what `bnas` writes, to the letter."""
    records = first_draws(tmp_path / "cpnas", 1, "search.warmup_epochs=2")
    alone = first_draws(tmp_path / "bnas", 1, "search.warmup_epochs=2", name="bnas")
    rereading = BNAS.reread(records, make_search(tmp_path / "other", BNAS, "search.warmup_epochs=2").config)
    assert rereading is not None
    assert list(rereading.records)[:-1] == alone[:-1]


def test_scored_draws_come_first_and_are_not_trained(tmp_path: Path) -> None:
    """Each is what the networks of the warm-up say of it; they cost no epoch, and those that are trained follow on."""
    settings = ("search.warmup_epochs=1", "search.scored_passes=2")
    records = first_draws(tmp_path / "a", 1, *settings)
    draws = draws_of(records)
    assert [draw.get("trained", True) for draw in draws] == [False] * 16 + [True] * FIRST_ROUND
    assert len({(tuple(draw["normal"]), tuple(draw["reduce"])) for draw in draws}) == len(draws)
    assert [(draw["pass"], draw["draw"]) for draw in draws] == [(number // 8, number % 8) for number in range(24)]
    assert CPNAS.cost(records).asked == 2 * (1 + FIRST_ROUND)
    shared = SharedNetworks(make_search(tmp_path / "b", CPNAS, *settings))
    for name in ("child", "parent"):
        shared.warm_up(name, SearchState(1).warm_up_draws(shared.num_steps, seed=0), epoch=0)
    for draw in draws[:16]:
        scores = shared.validate_draw(Genotype(tuple(draw["normal"]), tuple(draw["reduce"])), draw=0)
        assert (draw["accuracy_child"], draw["accuracy_parent"]) == (
            scores["child"].accuracy,
            scores["parent"].accuracy,
        )
    first = draws[16]
    scores = shared.scores(Genotype(tuple(first["normal"]), tuple(first["reduce"])), draw=0, starting=lambda _: None)
    assert (first["accuracy_child"], first["accuracy_parent"]) == (scores["child"].accuracy, scores["parent"].accuracy)


def test_the_credit_of_a_draw_is_of_those_that_are_trained_and_the_regression_of_all(tmp_path: Path) -> None:
    *records, gone = first_draws(tmp_path, 1, "search.scored_passes=3", "search.credit=regression")
    state = SearchState.replay([*records, gone], SearchConfig(num_passes=1, credit="regression", scored_passes=3))
    assert len(state.validated) == 4 * FIRST_ROUND
    rounds = [draw.position[0] for draw in state.validated]
    assert rounds == [-1] * 3 * FIRST_ROUND + [0] * FIRST_ROUND
    trained = [draw.z for draw in state.validated[-FIRST_ROUND:]]
    means = mean_of_draws(state.validated, ALL_CANDIDATES)
    assert sorted(means["normal"][0].values()) == sorted(trained)


@pytest.mark.parametrize("evaluation", ["after_draw", "after_pass"])
def test_probabilities_are_what_z_is_of_where_they_are_the_performance(evaluation: str, tmp_path: Path) -> None:
    settings = ("search.performance=probability", "search.beta_p=0.75", f"search.evaluation={evaluation}")
    records = first_draws(tmp_path, 1, *settings)
    judged = [record for record in records if record.get("z") is not None]
    assert len(judged) == (1 if evaluation == "after_pass" else FIRST_ROUND)
    for record in judged:
        child, parent, z = (np.array(record[key]) for key in ("probability_child", "probability_parent", "z"))
        assert z == pytest.approx(child - 0.75 * (parent - child), abs=1e-12)
        assert np.all((child > 0) & (child < 1))
        assert "accuracy_child" in record


def test_a_probability_is_the_softmax_of_the_right_class() -> None:
    """By hand: two images, two classes, logits (0, ln 3) and (ln 4, 0), both of class 1."""
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])
    score = evaluate(lambda x: Output(x, x), [(logits, torch.tensor([1, 1]))])
    assert score == (0.5, pytest.approx((3 / 4 + 1 / 5) / 2, abs=1e-6))


# ---------------------------------------------------------------- credit


def played_round(state: SearchState, z_of: Mapping[Genotype, float]) -> None:
    """Give every draw of a round the z that it is worth."""
    while not state.round_complete:
        genotype = state.draw(seed=0)
        state.train(genotype)
        state.give([z_of[genotype]])


def test_credit_by_draw_is_of_this_round_and_by_regression_of_all() -> None:
    """The second round is all equal: by draw every operation ties, by regression the first round still speaks."""
    first = draw_pass(ALL_CANDIDATES, seed=0, pass_index=0)
    worth = {genotype: index / 10 for index, genotype in enumerate(first)}
    by_draw, by_regression = SearchState(1), SearchState(1, "regression")
    for state in (by_draw, by_regression):
        played_round(state, worth)
        state.abandon()
        played_round(state, dict.fromkeys(draw_pass(state.candidates, seed=0, pass_index=0), 0.5))
    ends = [state.abandon() for state in (by_draw, by_regression)]
    for edge in ends[0]["normal"]:
        assert len(set(edge["evaluation"].values())) == 1
    assert all(len(set(edge["evaluation"].values())) > 1 for edge in ends[1]["normal"])


def convolutions_found(credit: str, *, gain: float) -> int:
    """Of 28; z is the share of convolutions, and `gain` more with every draw of a round."""
    state = SearchState(1, credit)
    while not state.finished:
        while not state.round_complete:
            genotype, step = state.draw(seed=1), state.draw_index
            ops = genotype.normal + genotype.reduce
            state.train(genotype)
            state.give([sum("conv" in op for op in ops) / len(ops) + gain * step])
        state.abandon()
    return sum("conv" in op for cell in state.candidates.cells().values() for (op,) in cell)


def test_what_later_draws_gain_does_not_change_what_the_regression_finds() -> None:
    """The mean of a draw goes by its position instead; by chance 14 of 28 edges would get a convolution."""
    assert convolutions_found("regression", gain=0) == convolutions_found("regression", gain=0.05) >= 22
    assert convolutions_found("draw", gain=0.05) < convolutions_found("draw", gain=0)
    assert convolutions_found("draw", gain=0.05) <= 18


def test_the_order_of_the_draws_earns_no_credit() -> None:
    """z rises along every round and owes nothing to the operations: by regression nobody is ahead."""
    draws = [
        ValidatedDraw(genotype, 0.1 * turn + 0.02 * step, (turn, step))
        for turn in range(3)
        for step, genotype in enumerate(draw_pass(ALL_CANDIDATES, seed=turn, pass_index=0))
    ]
    effects = effects_of_all_draws(draws, ALL_CANDIDATES)
    assert all(abs(value) < 1e-9 for kind in CELL_KINDS for edge in effects[kind] for value in edge.values())
    means = mean_of_draws(draws, ALL_CANDIDATES)
    assert max(means["normal"][0].values()) - min(means["normal"][0].values()) == pytest.approx(0.14)


def test_e_of_the_regression_is_the_softmax_of_the_effects(tmp_path: Path) -> None:
    """In the history of a search; and its state after a resume is the one before."""
    *draws, gone = first_draws(tmp_path, 1, "search.credit=regression")
    validated = [
        ValidatedDraw(Genotype(tuple(d["normal"]), tuple(d["reduce"])), d["z"], (0, index))
        for index, d in enumerate(draws)
    ]
    effects = effects_of_all_draws(validated, ALL_CANDIDATES)
    for kind in CELL_KINDS:
        for edge, entry in enumerate(gone[kind]):
            exponentials = {op: math.exp(value) for op, value in effects[kind][edge].items()}
            total = sum(exponentials.values())
            assert entry["evaluation"] == pytest.approx({op: e / total for op, e in exponentials.items()}, abs=1e-12)
            assert effects[kind][edge][entry["abandoned"]] == min(effects[kind][edge].values())
    state = SearchState.replay([*draws, gone], SearchConfig(num_passes=1, credit="regression"))
    assert [set(OPERATIONS) - set(alive) for alive in state.candidates.normal] == [
        {edge["abandoned"]} for edge in gone["normal"]
    ]


# ---------------------------------------------------------------- no Parent


def networks_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precision of every network that is trained, in order."""
    seen: list[str] = []
    original = SharedNetworks.train

    def train(self: SharedNetworks, name: Any, genotype: Genotype, *, draw: int) -> None:
        seen.append(name)
        original(self, name, genotype, draw=draw)

    monkeypatch.setattr(SharedNetworks, "train", train)
    return seen


@pytest.mark.parametrize(("name", "settings"), [("bnas", ()), ("cpnas", ("search.beta_p=0",))])
def test_without_weight_no_parent_is_trained_or_kept(
    name: str, settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = networks_of(monkeypatch)
    records = draws_of(first_draws(tmp_path, 1, *settings, name=name))
    assert seen == ["child"] * FIRST_ROUND
    assert [record["accuracy_parent"] for record in records] == [None] * FIRST_ROUND
    assert [record["z"] for record in records] == [record["accuracy_child"] for record in records]
    assert set(tensors_of(RunFolder(tmp_path))) == {"child"}
    assert strategy_named(name).cost(records).asked == FIRST_ROUND


def test_a_search_without_a_parent_goes_on_from_one_with_it_and_is_what_it_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, with the Child of the other; from one without, none can go on that needs a Parent."""
    expected = first_draws(tmp_path / "alone", FIRST_ROUND + 7, name="bnas")
    leader, follower = make_search(tmp_path / "cpnas", CPNAS), make_search(tmp_path / "bnas", BNAS)
    assert CPNAS.num_networks(leader.config) > BNAS.num_networks(follower.config)
    first_draws(tmp_path / "cpnas", 1)
    history = CPNAS.saved_history(leader.run)
    rereading = BNAS.reread(history, follower.config)
    assert rereading is not None
    assert without_seconds(rereading.records) == expected[: FIRST_ROUND + 1]
    BNAS.branch(leader.run, follower.run, rereading)
    seen = networks_of(monkeypatch)
    assert first_draws(tmp_path / "bnas", FIRST_ROUND + 7, name="bnas") == expected
    assert seen == ["child"] * 7
    assert tensors_of(follower.run) == tensors_of(RunFolder(tmp_path / "alone"))
    cost = BNAS.cost(follower.run.history(), num_inherited=FIRST_ROUND)
    assert (cost.asked, cost.trained) == (FIRST_ROUND + 7, 7)
    assert CPNAS.reread(expected, leader.config) is None


def test_a_checkpoint_without_a_parent_is_refused_where_one_is_needed(tmp_path: Path) -> None:
    first_draws(tmp_path, 1, name="bnas")
    with pytest.raises(CheckpointError, match="0 weights of the parent"):
        first_draws(tmp_path, 100)


# ---------------------------------------------------------------- the command line's refusals


def test_an_indicator_is_refused_where_there_is_no_beta() -> None:
    for name in ("random", "pcdarts"):
        with pytest.raises(UsageError) as caught:
            strategy_named(name).check_indicator("printed", instead="cpnas")
        assert str(caught.value) == f"{name} uses no indicator, got --indicator printed; use --strategy cpnas"
    CPNAS.check_indicator("printed", instead="cpnas")


# ---------------------------------------------------------------- a whole architecture is chosen

CHOOSES = ("search.num_left=6", "search.final_passes=3", "search.warmup_epochs=1", "search.scored_passes=1")


def whole_search(folder: Path, *overrides: str) -> tuple[Genotype, Records]:
    """What is found, and the history."""
    search = make_search(folder, CPNAS, *overrides)
    genotype = CPNAS.search(search)
    return genotype, without_seconds(search.run.history())


def test_the_best_of_what_is_left_is_chosen_as_a_whole(tmp_path: Path) -> None:
    """Operations are abandoned until so many are left; then draws of these are validated, untrained, and one wins."""
    genotype, records = whole_search(tmp_path, *CHOOSES)
    choice = records[-1]
    last = draws_of(records)[-18:]
    alive = {
        kind: [set(edge["evaluation"]) - {edge["abandoned"]} for edge in records[-20][kind]] for kind in CELL_KINDS
    }
    assert [record["event"] for record in records if record["event"] in ("abandon", "choice")] == ["abandon"] * 2 + [
        "choice"
    ]
    assert records[-20]["event"] == "abandon"
    assert [draw["trained"] for draw in last] == [False] * 18
    assert [(draw["pass"], draw["draw"]) for draw in last] == [(number // 6, number % 6) for number in range(18)]
    for first in range(0, 18, 6):  # in a pass every operation that is left stands on its edge once
        for kind in CELL_KINDS:
            drawn = [{draw[kind][edge] for draw in last[first : first + 6]} for edge in range(len(alive[kind]))]
            assert drawn == alive[kind]
    best = max(last, key=lambda draw: draw["z"])
    assert choice == {
        "event": "choice",
        "num_candidates": 6,
        "draw": last.index(best),
        "z": best["z"],
        **{kind: best[kind] for kind in CELL_KINDS},
    }
    assert genotype == Genotype(tuple(best["normal"]), tuple(best["reduce"]))


def test_draws_that_are_chosen_from_are_scores_of_the_weights_at_the_end(tmp_path: Path) -> None:
    search = make_search(tmp_path, CPNAS, *CHOOSES)
    CPNAS.search(search)
    shared, saved = SharedNetworks(search), journal_of(search.run).resume()
    assert saved is not None
    shared.restore(saved.tensors, path=tmp_path, num_warmed_up=1)
    for draw in draws_of(saved.records)[-18:]:
        scores = shared.validate_draw(Genotype(tuple(draw["normal"]), tuple(draw["reduce"])), draw=0)
        assert (draw["accuracy_child"], draw["accuracy_parent"]) == tuple(
            scores[name].accuracy for name in ("child", "parent")
        )


def test_what_is_left_is_neither_trained_nor_counted(tmp_path: Path) -> None:
    """The cost, the number of draws, the records that are to come and the schedule of the rate know it."""
    search = make_search(tmp_path, CPNAS, *CHOOSES)
    CPNAS.search(search)
    records, num_trained = search.run.history(), 8 + 7
    assert CPNAS.cost(records).asked == 2 * (1 + num_trained)
    assert CPNAS.num_units(search.config) == len(draws_of(records)) == 8 + num_trained + 18
    kinds = [unit.kind for unit in CPNAS.work_of_records(search.config, num_images=64)]
    assert kinds == ["epoch"] * 2 + ["score"] * 8 + ["draw"] * num_trained + ["score"] * 18
    assert num_epochs_of_search(search.config.search) == 1 + num_trained
    end = SharedNetworks(search)
    assert end.learning_rate(num_trained, 0) == pytest.approx(search.config.search.learning_rate_min)


def test_a_search_that_chooses_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Stopped after every draw, also after those of which one is chosen."""
    few = (*CHOOSES, "search.num_left=7", "search.final_passes=1", "search.scored_passes=0")
    genotype, records = whole_search(tmp_path / "whole", *few)
    found = None
    while found is None:
        with contextlib.suppress(MaxTimeReached):
            found = CPNAS.search(make_search(tmp_path / "stopped", CPNAS, *few, deadline=Deadline(0.0)))
    assert found == genotype
    assert without_seconds(RunFolder(tmp_path / "stopped").history()) == records


def test_a_choice_is_made_again_where_a_history_is_read_again(tmp_path: Path) -> None:
    """Searches that choose alike are one to the end; where another was chosen they part there."""
    _, records = whole_search(tmp_path, *CHOOSES)
    config = make_search(tmp_path / "b", CPNAS, *CHOOSES).config
    same = CPNAS.reread(records, config)
    assert same is not None
    assert (same.agrees, list(same.records)) == (True, records)
    other = next(draw for draw in draws_of(records)[-18:] if draw["normal"] != records[-1]["normal"])
    elsewhere = {**records[-1], "draw": other["draw"], **{kind: other[kind] for kind in CELL_KINDS}}
    parted = CPNAS.reread([*records[:-1], elsewhere], config)
    assert parted is not None
    assert (parted.agrees, list(parted.records)) == (False, records)


def test_a_choice_keeps_the_budget(tmp_path: Path) -> None:
    search = make_search(tmp_path, CPNAS, *CHOOSES, "search.max_size=9KiB")
    genotype = CPNAS.search(search)
    network = search.config.network
    shape = Surroundings(search.config.data.image_size, search.dataset.num_image_channels, search.num_classes)
    for draw in [*draws_of(search.run.history()), {"normal": genotype.normal, "reduce": genotype.reduce}]:
        drawn = Genotype(tuple(draw["normal"]), tuple(draw["reduce"]))
        assert estimate(dataflow_of(network, drawn, shape, precision="binary")).storage.total <= 9 * 8192
