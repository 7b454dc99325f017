"""Strict fairness: what a step adds up, what is scored, and which candidates stay."""

import contextlib
import itertools
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_every_strategy import make_search, search_whole, tensors_of, without_seconds

from cpnas_cli.errors import CheckpointError, MaxTimeReached, NonFiniteLossError, RunError
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    CELL_KINDS,
    EDGES,
    NONE,
    OPERATIONS,
    Candidates,
    Genotype,
    is_connected,
)  # fmt: skip
from cpnas_cli.strategies import strategy_named
from cpnas_cli.strategies.fair.candidates import keep_better_half, numbers_of_candidates
from cpnas_cli.strategies.fair.search import score, shared_child_of
from cpnas_cli.strategies.fair.state import FairState
from cpnas_cli.strategies.one_shot.draws import draw_candidates, drawn_for_scores
from cpnas_cli.strategies.one_shot.shared_child import Score, SharedChild

FAIR = strategy_named("fair")


def pairs() -> list[tuple[str, int]]:
    """The 28 edges of both cells."""
    return list(itertools.product(CELL_KINDS, range(len(EDGES))))


# ---------------------------------------------------------------- what is drawn


@pytest.mark.parametrize(
    "candidates",
    [
        ALL_CANDIDATES,
        Candidates(*[tuple(tuple(sorted(random.Random(e).sample(OPERATIONS, 3))) for e in range(14))] * 2),
        Candidates(*[((NONE, "skip_connect"),) * 14] * 2),
    ],
    ids=["all", "three", "none or skip"],
)
def test_in_a_draw_every_candidate_stands_once(candidates: Candidates) -> None:
    seen: list[list[Genotype]] = []
    for number in range(50):
        drawn = draw_candidates(candidates, random.Random(number))
        for kind, edge in pairs():
            assert sorted(genotype.cells()[kind][edge] for genotype in drawn) == sorted(candidates.cells()[kind][edge])
        assert all(is_connected(cell) for genotype in drawn for cell in genotype.cells().values())
        seen.append(drawn)
    assert len({tuple(drawn) for drawn in seen}) == 50


def test_the_first_of_a_draw_is_uniform() -> None:
    """Every operation of an edge in 800 draws about 100 times (five deviations), and so the pairs of two edges."""
    firsts = [draw_candidates(ALL_CANDIDATES, random.Random(number))[0] for number in range(800)]
    for kind, edge in pairs():
        counts = Counter(genotype.cells()[kind][edge] for genotype in firsts)
        assert all(abs(counts[op] - 100) < 5 * math.sqrt(800 / 8 * 7 / 8) for op in OPERATIONS)
    together = Counter((genotype.normal[0], genotype.reduce[3]) for genotype in firsts)
    assert max(together.values()) < 12.5 + 5 * math.sqrt(12.5)


def test_scores_are_of_other_architectures_than_steps_and_every_candidate_as_often() -> None:
    drawn = list(itertools.islice(drawn_for_scores(ALL_CANDIDATES, seed=3, purpose="fair scores"), 40))
    for kind, edge in pairs():
        assert set(Counter(genotype.cells()[kind][edge] for genotype in drawn).values()) == {5}
    assert len(set(drawn)) == 40
    other = itertools.islice(drawn_for_scores(ALL_CANDIDATES, seed=4, purpose="fair scores"), 40)
    assert not set(drawn) & set(other)


# ---------------------------------------------------------------- which candidates stay


def test_the_rounds_halve_the_candidates() -> None:
    assert numbers_of_candidates() == [8, 4, 2]


def planted(seed: int) -> dict[str, list[dict[str, float]]]:
    """Effects of all operations, a random order on every edge."""
    generator = random.Random(seed)
    effects: dict[str, list[dict[str, float]]] = {}
    for kind in CELL_KINDS:
        orders = [generator.sample(OPERATIONS, len(OPERATIONS)) for _ in EDGES]
        effects[kind] = [{op: rank / 50 for rank, op in enumerate(order)} for order in orders]
    return effects


def best(effects: dict[str, float], count: int) -> set[str]:
    return set(sorted(effects, key=lambda op: -effects[op])[:count])


def test_the_better_half_stays() -> None:
    effects, state = planted(0), FairState(make_settings())
    for count in (4, 2):
        records = keep_better_half(state.candidates, effects)
        for record in records:
            state.give(record)
        assert [record["num_candidates"] for record in records] == list(range(2 * count, count, -1))
        for kind, edge in pairs():
            assert set(state.candidates.cells()[kind][edge]) == best(effects[kind][edge], count)
    assert len(records[0]["normal"]) == 14
    evaluation = records[0]["normal"][3]["evaluation"]
    four = best(effects["normal"][3], 4)
    total = sum(math.exp(effects["normal"][3][op]) for op in four)
    assert evaluation == pytest.approx({op: math.exp(effects["normal"][3][op]) / total for op in four})  # (4.16)


def test_of_an_odd_number_the_middle_one_stays() -> None:
    three = Candidates(*[(OPERATIONS[1:4],) * 14] * 2)
    (record,) = keep_better_half(three, {kind: [dict.fromkeys(OPERATIONS, 0.0)] * 14 for kind in CELL_KINDS})
    assert record["num_candidates"] == 3
    assert {edge["abandoned"] for edge in record["normal"]} == {OPERATIONS[1]}  # of equals the first goes


def test_what_is_left_is_connected() -> None:
    """`none` is best everywhere, by less on one edge, which so keeps its rival."""
    effects = {kind: [{op: float(op == NONE) for op in OPERATIONS} for _ in EDGES] for kind in CELL_KINDS}
    effects["reduce"][6]["sep_conv_3x3"] = 0.5
    state = FairState(make_settings())
    while not state.finished:
        for record in keep_better_half(state.candidates, effects):
            state.give(record)
    assert all(is_connected(tuple(ops for (ops,) in cell)) for cell in state.candidates.cells().values())
    assert state.candidates.reduce[6] == ("sep_conv_3x3",)
    assert state.candidates.reduce.count((NONE,)) == 13


def make_settings() -> Any:
    return make_config().fair


def make_config(*overrides: str) -> Any:
    from test_every_strategy import make_config

    return make_config(FAIR, *overrides)


PLANTED = ("fair.num_scored=400", "fair.num_epochs=1", "fair.num_retraining_epochs=0")


def test_a_search_finds_what_is_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scores are sums of what the operations of the edges are worth, each edge gets the one worth most."""
    worth = planted(5)

    def planted_score(_: SharedChild, genotype: Genotype) -> Score:
        return Score(0.5, sum(worth[kind][edge][genotype.cells()[kind][edge]] for kind, edge in pairs()) / 10)

    monkeypatch.setattr(SharedChild, "score", planted_score)
    found = FAIR.search(make_search(tmp_path, FAIR, *PLANTED))
    for kind, edge in pairs():
        assert {found.cells()[kind][edge]} == best(worth[kind][edge], 1)


# ---------------------------------------------------------------- the steps


SGD = ("search.optimizer=sgd", "search.learning_rate=0.1", "search.learning_rate_min=0.1", "search.weight_decay=0")


def test_a_step_goes_along_the_mean_of_the_gradients(tmp_path: Path) -> None:
    """SGD without momentum: the difference is the rate times what autograd gives for each architecture by itself."""
    search = make_search(tmp_path, FAIR, *SGD, "search.momentum=0", "search.clip_norm=1e9")
    shared = shared_child_of(search)
    drawn = draw_candidates(ALL_CANDIDATES, random.Random(1))
    images = shared.images.training
    x_BCHW, labels_B = shared.images.pipeline.normalize(images.images), images.labels
    gradients = [torch.zeros_like(parameter) for parameter in shared.parameters]
    for genotype in drawn:
        loss = F.cross_entropy(shared.network(x_BCHW, genotype).logits, labels_B)
        found = torch.autograd.grad(loss, shared.parameters, allow_unused=True)
        gradients = [g if new is None else g + new / 8 for g, new in zip(gradients, found, strict=True)]
    before = [parameter.detach().clone() for parameter in shared.parameters]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(shared.images.pipeline), "training_batches", lambda *_, **__: iter([(x_BCHW, labels_B)]))
        shared.train(lambda _: drawn, epoch=0, before_step=lambda _: None)
    moved = 0
    for parameter, old, gradient in zip(shared.parameters, before, gradients, strict=True):
        assert torch.allclose(parameter, old - 0.1 * gradient, atol=1e-6)
        moved += int(bool((gradient != 0).any()))
    assert moved > 0.9 * len(before)  # in one step nearly all weights learn


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_buffers_that_are_there_from_the_start_change_no_step(optimizer: str, tmp_path: Path) -> None:
    """As with torch's own, which are made for each parameter when it first has a gradient."""
    search = make_search(tmp_path, FAIR, f"search.optimizer={optimizer}", "search.weight_decay=0.01")
    shared = shared_child_of(search)
    settings = search.config.search
    copies = [torch.nn.Parameter(parameter.detach().clone()) for parameter in shared.parameters]
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "foreach": False}
    one_by_one = [
        torch.optim.SGD([copy], momentum=settings.momentum, **common)
        if optimizer == "sgd"
        else torch.optim.Adam([copy], **common)
        for copy in copies
    ]
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        for index, (parameter, copy) in enumerate(zip(shared.parameters, copies, strict=True)):
            has_gradient = (index + step) % 3 > 0  # each a while without
            # in the memory layout of the parameter, as autograd makes them
            gradient = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))
            for each in (parameter, copy):
                each.grad = gradient.detach().clone() if has_gradient else None
        shared.optimizer.step()
        for one in one_by_one:
            one.step()
    for parameter, copy in zip(shared.parameters, copies, strict=True):
        assert torch.allclose(parameter, copy, rtol=1e-5, atol=1e-6)


def test_the_rate_falls_along_one_cosine_over_all_rounds(tmp_path: Path) -> None:
    overrides = ("search.learning_rate=0.01", "search.learning_rate_min=0.002", "search.batch_size=5")
    whole = search_whole(tmp_path, FAIR, *overrides)
    rates = [record["learning_rate"] for record in whole.units]
    # two steps an epoch, and the record has the rate of the second: of 4 epochs 1/8, 3/8, 5/8, 7/8 are done then
    assert rates == pytest.approx([0.002 + 0.004 * (1 + math.cos(math.pi * done / 8)) for done in (1, 3, 5, 7)])
    assert [record["num_candidates"] for record in whole.units] == [8, 8, 4, 2]


# ---------------------------------------------------------------- the scores


def test_what_was_scored_first_can_be_scored_again_in_the_end(tmp_path: Path) -> None:
    """The weights have gone on since with fewer candidates; those of all are kept."""
    search = make_search(tmp_path, FAIR)
    FAIR.search(search)
    first = [record for record in search.run.history() if record["event"] == "draw" and record["num_candidates"] == 8]
    genotypes = [Genotype(normal=tuple(record["normal"]), reduce=tuple(record["reduce"])) for record in first]
    before = tensors_of(search.run)
    assert score(search, genotypes) == [Score(record["accuracy_child"], record["z"]) for record in first]
    assert len({record["z"] for record in first}) == len(first)
    assert tensors_of(search.run) == before
    assert before["weights"] != before["weights_of_all"]


@pytest.mark.parametrize(("setting", "count"), [("3", 3), ("null", 10), ("1000", 10)])
def test_a_score_is_a_fraction_of_so_many_images(setting: str, count: int, tmp_path: Path) -> None:
    """With batch norm of the training half: as a network that has learnt its statistics from that half alone."""
    shared = shared_child_of(make_search(tmp_path, FAIR, f"fair.num_scored_images={setting}"))
    (genotype,) = itertools.islice(drawn_for_scores(ALL_CANDIDATES, seed=0, purpose="fair scores"), 1)
    network, images = shared.network, shared.images
    half = images.pipeline.normalize(images.training.images)
    assert sorted(shared.calibration_BCHW.flatten(1).tolist()) == sorted(half.flatten(1).tolist())
    for norm in network.batch_norms_of(genotype):
        norm.statistics, norm.momentum = "running", 1.0
    with torch.no_grad():
        network(shared.calibration_BCHW, genotype)
        for norm in network.batch_norms_of(genotype):
            norm.eval()
        logits_BK = network(images.pipeline.normalize(images.validation.images[:count]), genotype).logits
    for norm in network.batch_norms_of(genotype):
        norm.train()
        norm.statistics = "none"
    labels_B = images.validation.labels[:count]
    right = [int(max(range(10), key=lambda k: row[k]) == label) for row, label in zip(logits_BK, labels_B, strict=True)]
    probability = [
        math.exp(row[label]) / sum(math.exp(logit) for logit in row)
        for row, label in zip(logits_BK.tolist(), labels_B.tolist(), strict=True)
    ]
    assert shared.score(genotype) == pytest.approx((sum(right) / count, sum(probability) / count))


def test_each_round_scores_in_proportion_to_its_candidates(tmp_path: Path) -> None:
    whole = search_whole(tmp_path, FAIR, "fair.num_scored=9")
    counts = Counter(record["num_candidates"] for record in whole.history if record["event"] == "draw")
    assert counts == {8: 9, 4: 5, 2: 3}


def test_there_is_nothing_to_score_in_before_an_epoch(tmp_path: Path) -> None:
    search = make_search(tmp_path, FAIR, deadline=Deadline(0.0))
    with pytest.raises(RunError, match="holds no shared Child; make one with `cpnas search --strategy fair`"):
        score(search, [])
    with contextlib.suppress(MaxTimeReached):
        FAIR.search(search)
    with pytest.raises(CheckpointError, match="0 values of weights_of_all"):  # one epoch of two
        score(search, [])


# ---------------------------------------------------------------- stopping and going on


def test_stopped_with_momentum_and_between_scores_it_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpnas_cli.strategies.one_shot.search.SCORED_PER_COMMIT", 3)
    overrides = (*SGD, "search.momentum=0.9", "fair.num_scored=4", "fair.num_epochs=1")
    whole = search_whole(tmp_path / "whole", FAIR, *overrides)
    num_stops, genotype = 0, None
    while genotype is None:
        search = make_search(tmp_path / "run", FAIR, *overrides, deadline=Deadline(0.0))
        try:
            genotype = FAIR.search(search)
        except MaxTimeReached:
            num_stops += 1
    assert num_stops == 3 + 2 + 1 + 1 - 1  # 3 epochs; 4 scores are two parts, 2 and 1 are one; the last ends it
    assert genotype == whole.genotype
    run = RunFolder(tmp_path / "run")
    assert without_seconds(run.history()) == without_seconds(whole.history)
    assert tensors_of(run) == whole.tensors()


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    with contextlib.suppress(MaxTimeReached):
        FAIR.search(make_search(tmp_path, FAIR, deadline=Deadline(0.0)))
    before = (tmp_path / "history.jsonl").read_text() + "x"
    (tmp_path / "history.jsonl").write_text(before)
    with pytest.raises(CheckpointError, match=r"is of another search: \d+ values of weights, not \d+"):
        FAIR.search(make_search(tmp_path, FAIR, "network.num_channels=8"))
    assert (tmp_path / "history.jsonl").read_text() == before  # nothing was dropped


def test_a_loss_that_is_no_number_says_where(tmp_path: Path) -> None:
    search = make_search(tmp_path, FAIR, "search.learning_rate=1e30", "search.batch_size=5")
    with pytest.raises(NonFiniteLossError, match=r"step 2 of 2, epoch 1 of 4; .*search\.learning_rate"):
        FAIR.search(search)
