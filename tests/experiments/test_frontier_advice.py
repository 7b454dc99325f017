"""The advice of a frontier on points made by hand, whose answers are known."""

import math

import pytest

from cpnas_cli.experiments.frontier.advice import Point, advise, budgets_of_seconds, choose, standard_error

KIB = 1024


def point(
    family: str, accuracy: float, *, kib: float = 10, ms: float | None = 1.0, std: float | None = 0.0, n: int = 3
) -> Point:
    return Point(family, 1.0, accuracy, std, n, round(kib * KIB), None if ms is None else ms / 1e3)


def test_the_most_accurate_of_those_that_fit() -> None:
    points = [
        point("1-bit", 0.80, kib=20),
        point("1-bit", 0.90, kib=64),
        point("int8 CNN", 0.85, kib=60),
        point("float32 CNN", 0.99, kib=65),
    ]
    verdicts = {kib: choose(points, kib * KIB, by="bytes") for kib in (16, 32, 64, 128)}
    assert {kib: choice.verdict for kib, choice in verdicts.items()} == {
        16: "none",
        32: "1-bit",
        64: "1-bit",
        128: "other",
    }
    assert verdicts[16].take is None
    assert verdicts[32].other is None
    assert verdicts[32].difference is None
    assert verdicts[64].difference == pytest.approx(0.05)
    taken = verdicts[128].take
    assert taken is not None
    assert taken.family == "float32 CNN"


def test_level_where_the_difference_is_within_its_standard_error() -> None:
    """s = 0.03 and 0.04, n = 9 and 4: sqrt(0.0001 + 0.0004) = 0.02236."""
    bit, other = point("1-bit", 0.80, std=0.03, n=9), point("int8 CNN", 0.82, std=0.04, n=4)
    assert standard_error(bit, other) == pytest.approx(math.sqrt(0.0005))
    choice = choose([bit, other], 64 * KIB, by="bytes")
    assert (choice.verdict, choice.take) == ("level", other)
    assert choice.difference == pytest.approx(-0.02)
    further = choose([bit, point("int8 CNN", 0.8225, std=0.04, n=4)], 64 * KIB, by="bytes")
    assert further.verdict == "other"


def test_equal_accuracies_are_level_without_any_spread() -> None:
    points = [point("1-bit", 0.7, std=None, n=1), point("int8 Parent", 0.3 + 0.4, std=None, n=1)]
    choice = choose(points, 64 * KIB, by="bytes")
    assert (choice.verdict, choice.standard_error) == ("level", None)


def test_of_equally_accurate_points_the_cheapest() -> None:
    points = [point("int8 CNN", 0.9, kib=40, ms=1), point("int8 CNN", 0.9, kib=30, ms=2)]
    by_bytes, by_time = choose(points, 1 << 20, by="bytes").other, choose(points, 1, by="seconds").other
    assert (by_bytes, by_time) == (points[1], points[0])


def test_a_single_seed_is_said() -> None:
    text = advise([point("1-bit", 0.9, std=None, n=1), point("int8 CNN", 0.8, std=None, n=1)])["sentence"]
    assert text.startswith("1 bit is the best choice for some sizes or times")
    assert "single seed" in text
    assert "single seed" not in advise([point("1-bit", 0.9), point("int8 CNN", 0.8)])["sentence"]


def test_where_1_bit_is_nowhere_the_best_the_sentence_says_so() -> None:
    text = advise([point("1-bit", 0.7), point("int8 CNN", 0.8)])["sentence"]
    assert text == (
        "1 bit is nowhere the best choice for these images; by size take int8 CNN at 16 to 256 KiB; "
        "by time take int8 CNN at 1 ms."
    )
    level = advise([point("1-bit", 0.8, std=0.1), point("int8 CNN", 0.81)])["sentence"]
    assert level.startswith("1 bit is nowhere the best choice for these images, at best level with another; ")
    assert "by size take 1 bit or int8 CNN (level) at 16 to 256 KiB" in level


def test_sizes_with_different_answers() -> None:
    points = [point("int8 CNN", 0.8, kib=10), point("1-bit", 0.9, kib=60, ms=3), point("float32 Parent", 1.0, kib=200)]
    advice = advise(points)
    assert [choice["budget_bytes"] for choice in advice["sizes"]] == [16384, 32768, 65536, 131072, 262144]
    assert [choice["verdict"] for choice in advice["sizes"]] == ["other", "other", "1-bit", "1-bit", "other"]
    assert (
        "by size take int8 CNN at 16 to 32 KiB, 1 bit at 64 to 128 KiB, float32 Parent at 256 KiB" in advice["sentence"]
    )


def test_nothing_fits_and_nothing_was_measured() -> None:
    assert advise([]) == {
        "sizes": [
            {
                "budget_bytes": kib * KIB,
                "verdict": "none",
                **{
                    name: {"family": None, "width": None, "accuracy_mean": None}
                    for name in ("take", "one_bit", "other")
                },
                "difference": None,
                "standard_error": None,
            }
            for kib in (16, 32, 64, 128, 256)
        ],
        "times": [],
        "sentence": "No network fits into any of these sizes or times.",
    }
    large = advise([point("float32 CNN", 0.9, kib=500, ms=None)])
    assert {choice["verdict"] for choice in large["sizes"]} == {"none"}
    assert large["times"] == []


@pytest.mark.parametrize(
    ("milliseconds", "budgets"),
    [
        ([0.1], [1e-4]),
        ([0.11, 0.9], [2e-4, 5e-4, 1e-3]),
        ([0.02, None, 4.9], [2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3]),
    ],
)
def test_times_from_the_first_that_lets_one_in_to_the_first_that_lets_all_in(
    milliseconds: list[float | None], budgets: list[float]
) -> None:
    assert budgets_of_seconds([point("1-bit", 0.5, ms=ms) for ms in milliseconds]) == budgets
