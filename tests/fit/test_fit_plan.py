"""Width and epochs from seconds: the numbers are worked out by hand."""

from collections.abc import Iterator

import pytest

from cpnas_cli.errors import UsageError
from cpnas_cli.fit.plan import KEPT_BACK, Plan, Times, Width, chosen_plan, epochs_enough, measure_enough, time_text

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
    ("widths", "plan"),
    [
        # 80 epochs would fit, twice 20 are the most
        ([(16, 10.0)], Plan(16, 40, 400.0)),
        ([(16, 25.0)], Plan(16, 32, 800.0)),
        # 16 x 16 = 256 against 8 x 20 (of 26)
        ([(16, 50.0), (8, 30.0)], Plan(16, 16, 800.0)),
        # 32 x 2 = 64, 16 x 8 = 128, 8 x 16 = 128: the wider of the two
        ([(32, 400.0), (16, 100.0), (8, 50.0)], Plan(16, 8, 800.0)),
        # 32 x 2 = 64, 16 x 4 = 64, 8 x 20 (of 40) = 160
        ([(32, 400.0), (16, 200.0), (8, 20.0)], Plan(8, 40, 800.0)),
        # the widest does not get through one epoch
        ([(64, 801.0), (4, 800.0)], Plan(4, 1, 800.0)),
    ],
)
def test_the_width_with_the_most_channels_times_epochs(widths: list[tuple[int, float]], plan: Plan) -> None:
    assert chosen_plan([Width(*each) for each in widths], TIMES, enough=20) == plan


def test_a_fixed_number_of_epochs_takes_the_widest_that_has_time_for_it() -> None:
    widths = [Width(16, 200.0), Width(8, 100.0), Width(4, 1.0)]  # 4 epochs, 8, 800
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
        chosen_plan([Width(8, 900.0), Width(4, 801.0)], TIMES, enough=20, fixed=fixed)
    assert words in str(raised.value)
    assert str(raised.value).endswith("--time 16m42s" if fixed is None else "--time 31m32s")  # 1702 / 0.9 = 1891.1


def test_what_is_asked_for_would_do() -> None:
    """Whoever types what the message says is not refused again."""
    for seconds in (1.0, 59.9, 801.0):
        again = Times(float(-(-TIMES.needed(seconds) // 1)), 60, 40)
        assert chosen_plan([Width(4, seconds)], again, enough=20).num_epochs == 1


def test_narrower_widths_are_measured_only_while_there_may_be_too_few_epochs() -> None:
    asked = []

    def measured(*widths: tuple[int, float]) -> Iterator[Width]:
        for num_channels, seconds in widths:
            asked.append(num_channels)
            yield Width(num_channels, seconds)

    def times() -> Times:
        return Times(1000, 60 + 100 * len(asked), 40)  # measuring takes time too

    # 700 / 30 = 23 of 20, but 15 if it is half as slow again; then 600 / 21 = 28, or 19; then 500 / 16 = 31, or 20.8
    widths = measured((32, 30.0), (16, 21.0), (8, 16.0), (4, 1.0))
    assert measure_enough(widths, times, enough=20) == [Width(32, 30.0), Width(16, 21.0), Width(8, 16.0)]
    assert asked == [32, 16, 8]
    asked.clear()
    assert measure_enough(measured((32, 30.0), (16, 21.0)), times, enough=20, fixed=15) == [Width(32, 30.0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1s"), (9.01, "10s"), (119, "119s"), (120, "2m"), (120.5, "2m01s"), (1301, "21m41s")],
)
def test_a_time_can_be_typed(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
