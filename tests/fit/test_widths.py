"""What is made of the seconds of widths."""

import statistics
from pathlib import Path

import pytest
import torch
from photos import make_photos

from cpnas_cli.data.dataset import load_dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.fit.folder import Asked
from cpnas_cli.fit.widths import FEWEST_STEPS, MOST_STEPS, Measured, Sized, StepTimer, no_slower, timed_in_turn
from cpnas_cli.genotypes.shipped import shipped_genotype


def test_a_narrower_network_is_not_slower_than_a_wider_one() -> None:
    """Seconds as a busy machine gave them: 8 channels, and then 4 while something else ran."""
    wider = Measured(8, 17552, None, {"parent": 0.21, "child": 0.42}, 0.12)
    disturbed = Measured(4, 8568, 0.001, {"parent": 0.84, "child": 0.31}, 0.45)
    found = no_slower(disturbed, wider)
    assert found == Measured(4, 8568, 0.001, {"parent": 0.21, "child": 0.31}, 0.12)
    assert round(found.seconds_of_both, 9) == 0.52


class Busy:
    """A machine that is twice as slow in every other 3 s of its time."""

    now = 0.0

    def take(self, seconds: float) -> float:
        seconds *= 1 + int(self.now // 3) % 2
        self.now += seconds
        return seconds


class Played:
    """A width whose step takes so many seconds on a machine."""

    def __init__(self, num_channels: int, seconds: float, machine: Busy) -> None:
        self.num_channels, self.step, self.machine = num_channels, seconds, machine
        self.seconds = list[float]()

    def time_once(self) -> float:
        self.seconds.append(self.machine.take(self.step))
        return self.seconds[-1]

    def measured(self) -> Measured:
        return Measured(self.num_channels, 1, None, {"child": statistics.median(self.seconds)}, 0.0)


def test_a_slow_minute_is_slow_for_all_widths() -> None:
    """One after the other, three steps of 1 s and six of 0.5 s look equally long, and the wider network is taken."""
    machine = Busy()
    one, other = Played(16, 1.0, machine), Played(8, 0.5, machine)
    for timer, steps in ((one, 3), (other, 3)):
        for _ in range(steps):
            timer.time_once()
    assert one.measured().seconds_of_both == other.measured().seconds_of_both == 1.0
    machine = Busy()
    wide, narrow = timed_in_turn([Played(16, 1.0, machine), Played(8, 0.5, machine)])
    assert wide.seconds_of_both / narrow.seconds_of_both == pytest.approx(2)


@pytest.mark.parametrize(("seconds", "turns"), [(10.0, FEWEST_STEPS), (0.5, 4), (0.01, MOST_STEPS)])
def test_turns_end_when_there_was_time_enough(seconds: float, turns: int) -> None:
    """2 s for each width."""

    class Steady(Busy):
        def take(self, seconds: float) -> float:
            return seconds

    timers = [Played(width, seconds, Steady()) for width in (16, 8)]
    timed_in_turn(timers)
    assert [len(timer.seconds) for timer in timers] == [turns, turns]


def test_steps_are_timed_on_the_threads_that_a_training_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One for a small network, all for a large one, whatever PyTorch has beside."""
    photos = make_photos(tmp_path / "shapes", count=10)
    asked = Asked(str(photos), settings=("data.image_size=16", "network.stem_stride=2", "network.num_channels=4"))
    config = asked.config()
    sized = Sized(4, config, 1)
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    try:
        timer = StepTimer(
            sized, None, shipped_genotype().genotype, load_dataset(config.data), open_device("cpu", dtype="float32")
        )
        seen = []
        step = timer._steps["child"]
        watched = lambda *batch: (seen.append(torch.get_num_threads()), step(*batch))  # noqa: E731
        monkeypatch.setitem(timer._steps, "child", watched)
        timer.time_once()
        monkeypatch.setattr("cpnas_cli.runs.threads.VALUES_FOR_SEVERAL_THREADS", 1)
        timer.time_once()
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    measured = timer.measured()
    assert {name: len(seconds) for name, seconds in timer.seconds.items()} == dict.fromkeys(
        ("batch", "parent", "child", "answer"), FEWEST_STEPS + 2
    )
    assert measured.seconds_of_step["child"] > measured.seconds_of_answer > 0
