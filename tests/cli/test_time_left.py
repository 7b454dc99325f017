"""Time left in the live views: from records made up, whose seconds are known, so what is left is too."""

import io
import statistics
from typing import Any

import pytest
from conftest import PUBLISHED_RULES

from cpnas_cli.cli.styled_console import StyledConsole
from cpnas_cli.cli.views.runs import search_view
from cpnas_cli.cli.views.trainings import TrainingView
from cpnas_cli.runs import time_left as module
from cpnas_cli.runs.time_left import RECENT, TimeLeft, Unit
from cpnas_cli.search_space import ALL_CANDIDATES, OPERATIONS, Genotype, draw_pass
from cpnas_cli.settings import load_config

LOSSES = ("loss", "loss_cross_entropy", "loss_kernel", "loss_compactness", "accuracy_train")


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)


def epoch(network: str, number: int, seconds: float) -> dict[str, Any]:
    common = {"event": "epoch", "learning_rate": 0.1, "resumed": True, **dict.fromkeys(LOSSES, 0.5)}
    return {**common, "network": network, "epoch": number, "seconds": seconds, "loss_architecture": None}


def draw(operations: list[str], seconds: float) -> dict[str, Any]:
    """Of two such cells."""
    place = {"event": "draw", "num_candidates": 8, "pass": 0, "z": None, "resumed": True}
    return {**place, "normal": operations, "reduce": operations, "seconds": seconds}


def test_a_kind_of_which_none_was_done_takes_what_its_work_says_and_then_what_it_took() -> None:
    left = TimeLeft([Unit("short")] * 2 + [Unit("long", 2.0)] * 3)
    assert left.seconds is None
    left.unit_done(3.0)
    assert left.seconds == pytest.approx(3 + 3 * 6)
    left.unit_done(5.0)
    assert left.seconds == pytest.approx(3 * 8)
    left.unit_done(9.0)
    assert left.seconds == pytest.approx(2 * 9)
    left.drop(1)
    assert left.seconds == pytest.approx(9)
    left.unit_done(9.0)
    assert left.seconds is None


def test_what_was_heavier_than_others_of_its_kind_does_not_stand_for_them() -> None:
    """One of 30 s that has three times as much to do as others, which take 10 s, and one of 20 s that has twice."""
    left = TimeLeft([Unit("draw")] * 6)
    left.unit_done(30.0, heaviness=3.0)
    left.unit_done(20.0, heaviness=2.0)
    assert left.seconds == pytest.approx(4 * 10)


def test_a_part_of_the_first_unit_says_what_the_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of an epoch in 30 s: 150 s each."""
    left = TimeLeft([Unit("epoch")] * 4)
    monkeypatch.setattr(module.time, "monotonic", lambda: 3.0)
    left.part_done(0.02)
    assert left.seconds is None  # a step or two
    monkeypatch.setattr(module.time, "monotonic", lambda: 30.0)
    left.part_done(0.2)
    assert left.seconds == pytest.approx(4 * 150 - 30)
    monkeypatch.setattr(module.time, "monotonic", lambda: 200.0)
    left.unit_done(200.0)
    left.part_done(0.0)
    assert left.seconds == pytest.approx(3 * 200)


def test_what_was_long_ago_does_not_count_and_what_passes_is_not_left_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    left = TimeLeft([Unit("draw")] * 100)
    left.unit_done(1000.0)
    for _ in range(RECENT):
        left.unit_done(2.0)
    assert left.seconds == pytest.approx(2 * 49)
    monkeypatch.setattr(module.time, "monotonic", lambda: 30.0)
    assert left.seconds == pytest.approx(2 * 49 - 30)
    monkeypatch.setattr(module.time, "monotonic", lambda: 300.0)
    assert left.seconds == 0


def test_a_taught_child_takes_longer_than_its_teacher_which_goes_first() -> None:
    """20 epochs of 1 s and 20 of 1.4 s: within 20 % after four of them, and exact when the Child has begun."""
    config = load_config("digits", overrides=["train.num_epochs=20", "train.teacher_weight=1"])
    view = TrainingView(config, ("child", "parent"), quiet=True)
    for number in range(4):
        view.notify(epoch("parent", number, 1.0))
    assert view.time_left.seconds == pytest.approx(16 + 20 * 1.4, rel=0.2)
    for number in range(4, 20):
        view.notify(epoch("parent", number, 1.0))
    view.notify(epoch("child", 0, 1.7))
    assert view.time_left.seconds == pytest.approx(19 * 1.7)
    view.notify({"event": "epochs", "network": "child", "num_epochs": 11})
    assert view.time_left.seconds == pytest.approx(10 * 1.7)
    assert (view.done, view.total) == (21, 31)


def test_epochs_with_frozen_architecture_parameters_are_shorter() -> None:
    """15 of 50 epochs; after five of 2 s each, 10 of 2 s and 35 of 3.1 s are left."""
    view: Any = search_view(load_config("digits", overrides=["search.strategy=pcdarts"]), num_images=1433)
    view.console.quiet = True
    for number in range(5):
        view.notify(epoch("child", number, 2.0))
    assert view.time_left.seconds == pytest.approx(10 * 2.0 + 35 * 3.1, rel=0.2)


def test_trainings_of_later_rounds_are_longer() -> None:
    """8 genotypes for one epoch, 4 for two, 2 for four: 24 epochs, of which the first took 3 s."""
    overrides = ["search.strategy=halving", "halving.num_genotypes=8", "halving.num_rounds=3", "halving.first_epochs=1"]
    view: Any = search_view(load_config("digits", overrides=overrides), num_images=1433)
    view.console.quiet = True
    trained = {"event": "draw", "round": 0, "draw": 0, "num_epochs": 1, "accuracy_child": 0.5, "accuracy_parent": None}
    view.notify({**trained, "seconds": 3.0, "resumed": True})
    assert view.time_left.seconds == pytest.approx(3.0 * 23)


def test_what_is_done_between_the_draws_is_left_too() -> None:
    """Passes of 8 draws of 1 s, which are validated in 2 s: after the first, 27 draws and their validation."""
    view: Any = search_view(
        load_config("digits", overrides=[*PUBLISHED_RULES, "search.evaluation=after_pass", "search.num_passes=1"]),
        num_images=1433,
    )
    view.console.quiet = True
    for number in range(8):  # every operation once on every edge
        view.notify(draw([OPERATIONS[number]] * 14, 1.0))
    accuracies = {"accuracy_child": [0.5] * 8, "accuracy_parent": [0.5] * 8}
    view.notify({"event": "pass", "pass": 0, "num_candidates": 8, **accuracies, "seconds": 2.0, "resumed": True})
    assert view.time_left.seconds == pytest.approx(27 * 1.25)


# ---------------------------------------------------------------- machines that are played

SECONDS = {"conv": 1.0, "pool": 0.5, "skip": 0.4, "none": 0.0}
"""Of an operation on an edge, on a machine that is played."""


def seconds_of_draw(genotype: Genotype) -> float:
    names = [*genotype.normal, *genotype.reduce]
    return 2 + sum(next(each for part, each in SECONDS.items() if part in name) for name in names)


@pytest.mark.parametrize("seed", range(8))
def test_first_draws_of_many_convolutions_do_not_mislead(seed: int) -> None:
    """Four of 35: the mean of all passes is known, because they draw every operation of an edge equally often."""
    view: Any = search_view(load_config("digits", overrides=PUBLISHED_RULES), num_images=1433)
    first, *_ = passes = [draw_pass(ALL_CANDIDATES, seed=seed, pass_index=index) for index in range(5)]
    for genotype in first[:4]:
        cells = {kind: list(cell) for kind, cell in genotype.cells().items()}
        view.notify({**draw([], seconds_of_draw(genotype)), **cells})
    mean = statistics.fmean(seconds_of_draw(genotype) for each in passes for genotype in each)
    assert view.time_left.seconds == pytest.approx(31 * mean, rel=0.1)


def test_epochs_of_the_warm_up_have_no_passes_to_be_validated() -> None:
    """12 epochs of 2 s of the Child and of the Parent; 35 draws of 4 s, whose seven passes take a quarter of that."""
    rules = ["search.warmup_epochs=12", "search.scored_passes=0", "search.evaluation=after_pass", "search.num_passes=1"]
    rules.append("search.num_left=1")
    view: Any = search_view(load_config("digits", overrides=rules), num_images=1433)
    view.console.quiet = True
    for number in range(3):
        for network in ("child", "parent"):
            view.notify(epoch(network, number, 2.0))
    assert view.time_left.seconds == pytest.approx(9 * 4 + 35 * 4 * 1.25, rel=0.05)


@pytest.mark.parametrize(
    ("strategy", "rounds"),
    [("spos", [(4, 1, 100)]), ("fair", [(4, 8, 160), (1, 4, 80), (1, 2, 40)])],
)
def test_what_is_scored_is_left_too(strategy: str, rounds: list[tuple[int, int, int]]) -> None:
    """On a machine that trains 100 images a second and tries 400, of 1,000 of which half validate: known at once.

    rounds: (epochs, architectures of a step, scores); a score tries 256 images after 256 that calibrate.
    """
    key = {"spos": ["spos.num_epochs=4", "spos.num_scored=100", "spos.num_scored_images=256"], "fair": []}[strategy]
    rules = [f"search.strategy={strategy}", "search.num_calibration_batches=4", "search.batch_size=64", *key]
    view: Any = search_view(load_config("digits", overrides=rules), num_images=1000)
    epochs = [count * each * 500 / 100 for count, each, _ in rounds]
    scores = [count * 512 / 400 for _, _, count in rounds]
    view.notify(epoch("child", 0, epochs[0] / rounds[0][0]))
    left = sum(epochs) + sum(scores) - epochs[0] / rounds[0][0]
    assert view.time_left.seconds == pytest.approx(left, rel=0.1)
    assert "left -" not in shown(view)


def shown(view: Any) -> str:
    view.console = StyledConsole(file=io.StringIO(), width=80)
    view.console.print(view.render())
    return view.console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
