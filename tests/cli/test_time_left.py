"""Time left in the live views: from records made up, whose seconds are known, so what is left is too."""

from typing import Any

import pytest
from conftest import PUBLISHED_RULES

from cpnas_cli.cli.views import time_left as module
from cpnas_cli.cli.views.runs import search_view
from cpnas_cli.cli.views.time_left import RECENT, TimeLeft
from cpnas_cli.cli.views.trainings import TrainingView
from cpnas_cli.settings import load_config

LOSSES = ("loss", "loss_cross_entropy", "loss_kernel", "loss_compactness", "accuracy_train")


@pytest.fixture(autouse=True)
def _no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)


def epoch(network: str, number: int, seconds: float) -> dict[str, Any]:
    common = {"event": "epoch", "learning_rate": 0.1, "resumed": True, **dict.fromkeys(LOSSES, 0.5)}
    return {**common, "network": network, "epoch": number, "seconds": seconds, "loss_architecture": None}


def test_a_kind_of_which_none_was_done_takes_what_its_work_says_and_then_what_it_took() -> None:
    left = TimeLeft([1.0, 1.0, 2.0, 2.0, 2.0])
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


def test_what_was_long_ago_does_not_count_and_what_passes_is_not_left_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    left = TimeLeft([1.0] * 100)
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
    view: Any = search_view(load_config("digits", overrides=["search.strategy=pcdarts"]))
    view.console.quiet = True
    for number in range(5):
        view.notify(epoch("child", number, 2.0))
    assert view.time_left.seconds == pytest.approx(10 * 2.0 + 35 * 3.1, rel=0.2)


def test_trainings_of_later_rounds_are_longer() -> None:
    """8 genotypes for one epoch, 4 for two, 2 for four: 24 epochs, of which the first took 3 s."""
    overrides = ["search.strategy=halving", "halving.num_genotypes=8", "halving.num_rounds=3", "halving.first_epochs=1"]
    view: Any = search_view(load_config("digits", overrides=overrides))
    view.console.quiet = True
    draw = {"event": "draw", "round": 0, "draw": 0, "num_epochs": 1, "accuracy_child": 0.5, "accuracy_parent": None}
    view.notify({**draw, "seconds": 3.0, "resumed": True})
    assert view.time_left.seconds == pytest.approx(3.0 * 23)


def test_what_is_done_between_the_draws_is_left_too() -> None:
    """Passes of 8 draws of 1 s, which are validated in 2 s: after the first, 27 draws and their validation."""
    view: Any = search_view(
        load_config("digits", overrides=[*PUBLISHED_RULES, "search.evaluation=after_pass", "search.num_passes=1"])
    )
    view.console.quiet = True
    draw = {"event": "draw", "num_candidates": 8, "pass": 0, "z": None, "seconds": 1.0, "resumed": True}
    for _ in range(8):
        view.notify(draw)
    accuracies = {"accuracy_child": [0.5] * 8, "accuracy_parent": [0.5] * 8}
    assert view.time_left.seconds == pytest.approx(27 * 1.25, rel=0.05)
    view.notify({"event": "pass", "pass": 0, "num_candidates": 8, **accuracies, "seconds": 2.0, "resumed": True})
    assert view.time_left.seconds == pytest.approx(27 * 1.25)
