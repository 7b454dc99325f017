"""`cpnas fit --time` on a machine that is played: the networks are real and tiny, what they take is made up.

The clock stands still but for what the played machine does, so that what is left of the time can be worked out by hand.
"""

import itertools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import error_of, invoke
from photos import make_photos

from cpnas_cli.fit import plan
from cpnas_cli.networks.network import Network
from cpnas_cli.training.epoch import TrainStep

TINY = ["--set", "data.image_size=16", "--set", "network.stem_stride=2", "--set", "network.stem_multiplier=1"]
WIDTH = ["--set", "network.num_channels=4"]
FORWARD, BACKWARD = 0.2, 0.3
"""Seconds of a batch: a step of the teacher takes 0.5, one of the Child 0.7 with the answers of its teacher."""


class Machine:
    """A clock, and how many times as long as usual everything takes at a time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slowness: Callable[[float], float] = lambda _: 1.0
        self.interrupted_at: float | None = None

    def now(self) -> float:
        self.seconds += 1e-4  # so that who waits for it does not wait for ever
        return self.seconds

    def work(self, seconds: float) -> None:
        self.seconds += seconds * self.slowness(self.seconds)
        if self.interrupted_at is not None and self.seconds > self.interrupted_at:
            self.interrupted_at = None
            raise KeyboardInterrupt


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    played, forward, step = Machine(), Network.forward, TrainStep.__call__

    def played_forward(network: Network, *args: Any, **more: Any) -> Any:
        played.work(FORWARD)
        return forward(network, *args, **more)

    def played_step(this: TrainStep, *args: Any) -> Any:
        played.work(BACKWARD)
        return step(this, *args)

    monkeypatch.setattr(plan, "MOST_ENOUGH", 40)
    monkeypatch.setattr(plan, "TEACHER_FROM", 10)
    monkeypatch.setattr(Network, "forward", played_forward)
    monkeypatch.setattr(TrainStep, "__call__", played_step)
    monkeypatch.setattr(time, "monotonic", played.now)
    monkeypatch.setattr(time, "perf_counter", played.now)
    return played


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 to train with, one batch, so that an epoch is a step."""
    return make_photos(tmp_path_factory.mktemp("made") / "shapes", classes=("disc", "box", "cross"), count=15)


def epochs_of(folder: Path) -> dict[str, int]:
    records = [json.loads(line) for line in (folder / "train/history.jsonl").read_text().splitlines()]
    names = [record["network"] for record in records if record["event"] == "epoch"]
    return {name: len(list(group)) for name, group in itertools.groupby(names)}


def fit(photos: Path, folder: Path, *words: str) -> Any:
    return invoke("fit", photos, "--max-size", "9KiB", *TINY, *WIDTH, "--out", folder, *words)


def test_the_time_is_used_and_kept_and_what_was_done_is_said(photos: Path, machine: Machine, tmp_path: Path) -> None:
    """Of 45 s 4.5 are kept back, some 15 go for measuring and testing: 1.2 s for an epoch of both."""
    answer = fit(photos, tmp_path / "fit", "--time", "45s")
    assert answer.exit_code == 0, answer.output
    assert 0.75 * 45 < machine.seconds < 45
    epochs = epochs_of(tmp_path / "fit")
    assert epochs["parent"] == epochs["child"]
    assert 1.2 * (epochs["child"] + 1) > 0.9 * 45 - 15
    document = json.loads((tmp_path / "fit/fit.json").read_text())
    assert document["seconds"]["training_planned"] == pytest.approx(1.2 * epochs["child"], rel=0.01)
    assert document["result"]["seconds_training"] == pytest.approx(1.2 * epochs["child"], rel=0.01)
    said = " ".join(answer.stderr.split())
    why = "an epoch of the teacher and one of the Child have 1 step of 1.2 s each"
    assert f"train.num_epochs={epochs['child']}: {why}" in said


def test_a_machine_that_gets_slower_in_the_middle(photos: Path, machine: Machine, tmp_path: Path) -> None:
    """Twice as slow from 14 s on, when two thirds of the teacher's epochs are done."""
    machine.slowness = lambda now: 1.0 if now < 14 else 2.0
    answer = fit(photos, tmp_path / "fit", "--time", "45s")
    assert answer.exit_code == 0, answer.output
    assert 0.75 * 45 < machine.seconds < 45
    epochs = epochs_of(tmp_path / "fit")
    assert epochs["child"] < epochs["parent"]
    assert f"{epochs['child']} epochs of the Child instead of {epochs['parent']}, to keep --time 45s" in answer.stderr


def test_interrupted_it_has_the_time_that_is_left(photos: Path, machine: Machine, tmp_path: Path) -> None:
    """An hour in which nothing ran is not of its time, nor is what was measured measured again."""
    machine.interrupted_at = 14.0
    first = fit(photos, tmp_path / "fit", "--time", "45s")
    assert first.exit_code == 130, first.output
    chosen = json.loads((tmp_path / "fit/fit.json").read_text())
    machine.seconds += 3600
    again = fit(photos, tmp_path / "fit", "--time", "45s")
    assert again.exit_code == 0, again.output
    assert 0.75 * 45 < machine.seconds - 3600 < 45 + 0.7  # the epoch that was lost
    document = json.loads((tmp_path / "fit/fit.json").read_text())
    for key in ("choices", "widths", "child_epochs"):
        assert document[key] == chosen[key]


def test_what_it_says_would_do_does(photos: Path, machine: Machine, tmp_path: Path) -> None:
    refused = fit(photos, tmp_path / "fit", "--time", "4s")
    assert not (tmp_path / "fit").exists()
    found = re.search(r"--time 4s is too short: one epoch of .* type at least --time (\w+)", error_of(refused, code=2))
    assert found is not None
    machine.seconds = 0.0
    answer = fit(photos, tmp_path / "fit", "--time", found[1])
    assert answer.exit_code == 0, answer.output
    minutes, _, seconds = found[1].removesuffix("s").rpartition("m")
    assert machine.seconds < 60 * int(minutes or 0) + int(seconds)
