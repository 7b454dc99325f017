"""Width and epochs from seconds: the numbers are worked out by hand."""

from collections.abc import Iterator
from dataclasses import asdict

import pytest
import torch

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.errors import UsageError
from cpnas_cli.fit.folder import Asked
from cpnas_cli.fit.plan import (
    KEPT_BACK,
    TEACHER_FROM,
    TEACHER_WORTH,
    Plan,
    Times,
    Way,
    chosen_plan,
    epochs_enough,
    measure_enough,
    time_text,
)
from cpnas_cli.fit.planning import choices_of_plan, ways_of
from cpnas_cli.fit.widths import Measured

TIMES = Times(asked=1000, spent=60, after=40)  # 900 - 100 = 800 s are left


def test_a_tenth_is_kept_back() -> None:
    assert KEPT_BACK == 0.1
    assert TIMES.left == pytest.approx(800)
    assert Times(1000, 60, 40, kept_back=0.6).left == pytest.approx(300)
    assert TIMES.needed(800) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("num_steps", "enough"),
    [(1, 200), (18, 200), (19, 198), (187, 21), (188, 20), (5000, 20)],  # 3750 / 19 = 197.4, 3750 / 187 = 20.05
)
def test_enough_epochs_are_as_many_steps_as_were_enough(num_steps: int, enough: int) -> None:
    assert epochs_enough(num_steps) == enough


@pytest.mark.parametrize(
    ("ways", "plan"),
    [
        # 80 epochs would fit, twice 20 are the most
        ([(16, 10.0)], Plan(16, 40, 400.0)),
        ([(16, 25.0)], Plan(16, 32, 800.0)),
        # sqrt(16) x 16 = 64 against sqrt(8) x 20 (of 26) = 56.6
        ([(16, 50.0), (8, 30.0)], Plan(16, 16, 800.0)),
        # 5.66 x 2 = 11.3, 4 x 8 = 32, 2.83 x 16 = 45.3
        ([(32, 400.0), (16, 100.0), (8, 50.0)], Plan(8, 16, 800.0)),
        # 4 x 8 = 2 x 16: the wider of the two
        ([(16, 100.0), (4, 50.0)], Plan(16, 8, 800.0)),
        # the widest does not get through one epoch
        ([(64, 801.0), (4, 800.0)], Plan(4, 1, 800.0)),
    ],
)
def test_twice_the_epochs_are_worth_four_times_the_channels(ways: list[tuple[int, float]], plan: Plan) -> None:
    assert chosen_plan([Way(*each) for each in ways], TIMES, enough=20) == plan


@pytest.mark.parametrize(
    ("ways", "enough", "fixed", "plan"),
    [
        # 40 of both; 39 would be too few, against 40 of 78
        ([(16, 20.0, True), (16, 10.0, False)], 20, None, Plan(16, 40, 800.0)),
        ([(16, 20.5, True), (16, 10.25, False)], 20, None, Plan(16, 40, 410.0, is_taught=False)),
        ([(16, 400.0, True), (16, 200.0, False)], 20, None, Plan(16, 4, 800.0, is_taught=False)),
        # 4 x 40 x 3 = 480, 4 x 80 = 320, 2.83 x 80 x 3 = 679, 2.83 x 100 (of 160) = 283
        (
            [(16, 20.0, True), (16, 10.0, False), (8, 10.0, True), (8, 5.0, False)],
            100,
            None,
            Plan(8, 80, 800.0),
        ),
        # in as many epochs as are asked for it is better with its teacher, if there is time
        ([(16, 160.0, True), (16, 80.0, False)], 20, 5, Plan(16, 5, 800.0)),
        ([(16, 161.0, True), (16, 80.5, False)], 20, 5, Plan(16, 5, 402.5, is_taught=False)),
    ],
)
def test_the_teacher_is_for_those_who_have_the_time(
    ways: list[tuple[int, float, bool]], enough: int, fixed: int | None, plan: Plan
) -> None:
    assert (TEACHER_FROM, TEACHER_WORTH) == (40, 3.0)
    assert chosen_plan([Way(*each) for each in ways], TIMES, enough=enough, fixed=fixed) == plan


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # a step of the teacher 2 s, of the Child 4 s, of which 1 s are the answers of the teacher; 10 steps
        ((), [(60.0, True), (30.0, False)]),
        (("train.teacher_weight=0.5",), [(60.0, True)]),
        (("train.teacher_weight=0", "train.num_epochs=3"), [(30.0, False)]),
        (("train.teacher=somewhere",), [(40.0, True)]),
    ],
)
def test_what_an_epoch_takes_is_of_what_is_trained(
    settings: tuple[str, ...], expected: list[tuple[float, bool]]
) -> None:
    asked = Asked("/photos", settings=settings)
    width = Measured(16, 1, None, {"parent": 2.0, "child": 4.0}, 1.0)
    ways = ways_of(width, asked, asked.config(), num_steps=10)
    assert ways == [Way(16, seconds, is_taught) for seconds, is_taught in expected]


@pytest.mark.parametrize(
    ("is_taught", "settings", "expected"),
    [
        # 12 epochs of 30 s; of 60 s there would be 6
        (False, (), {"train.teacher_weight": 0, "train.num_epochs": 12}),
        (False, ("train.teacher_weight=0",), {"train.num_epochs": 12}),
        (True, (), {"train.num_epochs": 12}),
    ],
)
def test_a_child_without_a_teacher_is_a_choice_that_the_training_keeps(
    is_taught: bool, settings: tuple[str, ...], expected: dict[str, int]
) -> None:
    asked = Asked("/photos", settings=settings)
    width = Measured(16, 1, None, {"parent": 2.0, "child": 4.0}, 1.0)
    images = ImageSet(torch.zeros(320, 1, 1, 1, dtype=torch.uint8), torch.zeros(320, dtype=torch.int64))  # 10 steps
    dataset = Dataset(images, images, ("a", "b"), (0.0,), (1.0,))
    choices = choices_of_plan(asked, Plan(16, 12, 360.0, is_taught), width, dataset, asked.config())
    assert {choice.setting: choice.value for choice in choices} == expected
    if not is_taught and not settings:
        assert "time for 6 epochs with it, and for 12 without" in choices[0].why
    trained = asked.config([asdict(choice) for choice in choices]).train
    assert (trained.teacher_weight > 0, trained.num_epochs) == (is_taught, 12)


def test_a_fixed_number_of_epochs_takes_the_widest_that_has_time_for_it() -> None:
    widths = [Way(16, 200.0), Way(8, 100.0), Way(4, 1.0)]  # 4 epochs, 8, 800
    assert chosen_plan(widths, TIMES, enough=20, fixed=5) == Plan(8, 5, 500.0)
    assert chosen_plan(widths, TIMES, enough=20, fixed=4) == Plan(16, 4, 800.0)


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        # (801 + 100) / 0.9 = 1001.1 s
        (None, "--time 16m40s is too short: one epoch of the teacher and the Child with 4 channels would take 13m21s"),
        (2, "2 epochs of the teacher and the Child with 4 channels would take 26m42s here, all else 100s"),
    ],
)
def test_too_little_time_says_what_would_do(fixed: int | None, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        chosen_plan([Way(8, 900.0), Way(4, 801.0)], TIMES, enough=20, fixed=fixed)
    assert words in str(raised.value)
    assert str(raised.value).endswith("--time 16m42s" if fixed is None else "--time 31m32s")  # 1702 / 0.9 = 1891.1


def test_what_is_asked_for_would_do() -> None:
    """Whoever types what the message says is not refused again."""
    for seconds in (1.0, 59.9, 801.0):
        again = Times(float(-(-TIMES.needed(seconds) // 1)), 60, 40)
        assert chosen_plan([Way(4, seconds)], again, enough=20).num_epochs == 1


def test_narrower_widths_are_measured_only_while_there_may_be_too_few_epochs() -> None:
    asked = []

    def measured(*widths: tuple[int, float]) -> Iterator[Way]:
        for num_channels, seconds in widths:
            asked.append(num_channels)
            yield Way(num_channels, seconds)

    def times() -> Times:
        return Times(1000, 60 + 100 * len(asked), 40)  # measuring takes time too

    # 700 / 30 = 23 of 20, but 15 if it is half as slow again; then 600 / 21 = 28, or 19; then 500 / 16 = 31, or 20.8
    widths = measured((32, 30.0), (16, 21.0), (8, 16.0), (4, 1.0))
    assert measure_enough(widths, times, enough=20) == [Way(32, 30.0), Way(16, 21.0), Way(8, 16.0)]
    assert asked == [32, 16, 8]
    asked.clear()
    assert measure_enough(measured((32, 30.0), (16, 21.0)), times, enough=20, fixed=15) == [Way(32, 30.0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1s"), (9.01, "10s"), (119, "119s"), (120, "2m"), (120.5, "2m01s"), (1301, "21m41s")],
)
def test_a_time_can_be_typed(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
