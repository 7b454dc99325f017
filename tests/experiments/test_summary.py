"""Means, deviations and paired differences, against numpy and by hand; and the warnings that go with few seeds."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cpnas_cli.experiments.summary import (
    bootstrap_interval,
    family_counts,
    mean_and_deviation,
    summarize,
    warnings_of,
)
from cpnas_cli.networks.operations.base import FAMILIES
from cpnas_cli.search_space import OPERATIONS

FAMILY_OF = {
    "none": "none",
    "skip_connect": "skips",
    "max_pool_3x3": "pools",
    "avg_pool_3x3": "pools",
    "sep_conv_3x3": "convolutions",
    "sep_conv_5x5": "convolutions",
    "dil_conv_3x3": "convolutions",
    "dil_conv_5x5": "convolutions",
}


def member(
    group: str, seed: int, accuracy: float = 0.5, *, state: str = "finished", draw: int = 0, **values: Any
) -> dict[str, Any]:
    """A member of `experiment.json`; one that has not finished has no results."""
    record: dict[str, Any] = {"name": f"{group}-seed-{seed}-draw-{draw}", "group": group, "seed": seed, "state": state}
    if state != "finished":
        return record
    return {
        **record,
        "accuracy_test": accuracy,
        "search": {"seconds": 10.0, "num_epochs": 70},
        "num_parameters": 1000,
        "size_bits": 5000,
        "operations": {"sep_conv_3x3": 20, "none": 8},
        **values,
    }


def by_group(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["group"]: row for row in rows}


# ---------------------------------------------------------------- mean, deviation, families


@pytest.mark.parametrize("count", [2, 3, 10, 1000])
def test_mean_and_deviation_are_those_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).normal(0.9, 0.03, count)
    mean, deviation = mean_and_deviation(values.tolist())
    assert mean == pytest.approx(values.mean(), rel=1e-12)
    assert deviation == pytest.approx(values.std(ddof=1), rel=1e-12)


def test_one_value_has_no_deviation() -> None:
    assert mean_and_deviation([0.25]) == (0.25, None)
    assert mean_and_deviation([0.1] * 3) == (pytest.approx(0.1), pytest.approx(0, abs=1e-12))


def test_the_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(statistics.StatisticsError):
        mean_and_deviation([])


def test_every_operation_is_in_one_family() -> None:
    assert set(FAMILY_OF) == set(OPERATIONS)
    for op in OPERATIONS:
        assert family_counts({op: 3}) == {family: 3 if family == FAMILY_OF[op] else 0 for family in FAMILIES}


def test_families_by_hand() -> None:
    counts = {op: 2**index for index, op in enumerate(OPERATIONS)}
    assert family_counts(counts) == {"none": 1, "skips": 2, "pools": 4 + 8, "convolutions": 16 + 32 + 64 + 128}
    assert family_counts({}) == {"none": 0, "skips": 0, "pools": 0, "convolutions": 0}


# ---------------------------------------------------------------- bootstrap


@pytest.mark.parametrize(
    "differences",
    [
        [0.01, 0.03],
        [-0.02, 0.01, 0.015],
        [0.1, -0.1, 0.05, -0.03, 0.02, 0.0],
        np.random.default_rng(5).normal(0.02, 0.01, 30).tolist(),
        np.random.default_rng(6).exponential(1.0, 15).tolist(),  # skewed: not what a t interval gives
    ],
)
def test_the_interval_is_the_percentile_bootstrap(differences: list[float]) -> None:
    generator = np.random.default_rng(12345)
    values = np.array(differences)
    resampled = values[generator.integers(0, len(values), (200_000, len(values)))].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    found = bootstrap_interval(differences)
    assert found is not None
    # the ends of 9,999 resamples scatter by a few hundredths of the standard error
    tolerance = 0.15 * values.std() / math.sqrt(len(values))
    assert found == (pytest.approx(low, abs=tolerance), pytest.approx(high, abs=tolerance))
    assert min(differences) - 1e-12 <= found[0] <= values.mean() <= found[1] <= max(differences) + 1e-12


def test_the_interval_is_always_the_same() -> None:
    differences = [0.1, -0.2, 0.05, 0.3]
    first = bootstrap_interval(differences)
    np.random.default_rng().random()
    assert bootstrap_interval(differences) == first
    assert first is not None
    assert [type(end) for end in first] == [float, float]  # not numpy's, which JSON does not know


def test_an_interval_scales_and_shifts_with_its_differences() -> None:
    first = bootstrap_interval([0.0, 1.0, 4.0])
    second = bootstrap_interval([10.0, 12.0, 18.0])
    assert first is not None
    assert second == (pytest.approx(10 + 2 * first[0]), pytest.approx(10 + 2 * first[1]))


@pytest.mark.parametrize("differences", [[], [0.1]])
def test_fewer_than_two_differences_have_no_interval(differences: list[float]) -> None:
    assert bootstrap_interval(differences) is None


@pytest.mark.parametrize("value", [0.0, 0.1, -0.25])
@pytest.mark.parametrize("count", [2, 6])
def test_equal_differences_have_an_interval_without_width(value: float, count: int) -> None:
    found = bootstrap_interval([value] * count)
    assert found is not None
    assert found == (pytest.approx(value, abs=1e-12), pytest.approx(value, abs=1e-12))


# ---------------------------------------------------------------- the rows


def test_a_row_by_hand() -> None:
    members = [
        member(
            "cpnas",
            seed,
            accuracy,
            search={"seconds": seconds, "num_epochs": epochs},
            num_parameters=parameters,
            size_bits=bits,
            operations=operations,
        )
        for seed, accuracy, seconds, epochs, parameters, bits, operations in [
            (0, 0.90, 10.0, 70, 1000, 4000, {"sep_conv_3x3": 10, "dil_conv_5x5": 4, "skip_connect": 14}),
            (1, 0.94, 14.0, 70, 1200, 5000, {"avg_pool_3x3": 28}),
            (2, 0.98, 12.0, 70, 1400, 9000, {"none": 7, "max_pool_3x3": 7, "sep_conv_5x5": 14}),
        ]
    ]
    (row,) = summarize(members, ["cpnas"])
    samples = {
        "accuracy_test": [0.90, 0.94, 0.98],
        "search_seconds": [10, 14, 12],
        "search_epochs": [70, 70, 70],
        "num_parameters": [1000, 1200, 1400],
        "size_bits": [4000, 5000, 9000],
        "convolutions": [14, 0, 14],
        "pools": [0, 28, 7],
        "skips": [14, 0, 0],
        "none": [0, 0, 7],
    }
    expected = {"group": "cpnas", "num_runs": 3, "num_seeds": 3}
    for name, values in samples.items():
        expected[f"{name}_mean"] = pytest.approx(np.mean(values))
        expected[f"{name}_std"] = pytest.approx(np.std(values, ddof=1))
    assert row == expected


def test_one_run_has_means_without_deviations() -> None:
    (row,) = summarize([member("2", 0, 0.75)], ["2"])
    assert row["accuracy_test_mean"] == 0.75
    assert {key for key, value in row.items() if value is None} == {key for key in row if key.endswith("_std")}
    assert sum(key.endswith("_std") for key in row) == 9


def test_groups_come_in_the_order_asked_for_with_what_has_finished() -> None:
    members = [
        member("1", 0, 0.5),
        member("0", 0, 0.6),
        member("0", 1, 0.8),
        member("0", 2, state="failed"),
        member("1", 1, state="unfinished"),
        member("5", 0, state="failed"),
        member("7", 0, 0.1),  # of a group that is not asked for
    ]
    rows = summarize(members, ["1", "5", "0", "3"])
    assert [(row["group"], row["num_runs"], row["num_seeds"]) for row in rows] == [
        ("1", 1, 1),
        ("5", 0, 0),
        ("0", 2, 2),
        ("3", 0, 0),
    ]
    assert by_group(rows)["0"]["accuracy_test_mean"] == pytest.approx(0.7)
    assert by_group(rows)["1"]["accuracy_test_mean"] == 0.5
    for group in ("5", "3"):
        assert by_group(rows)[group] == {"group": group, "num_runs": 0, "num_seeds": 0}


def test_no_groups_and_no_members() -> None:
    assert summarize([], []) == []
    assert summarize([], ["0"]) == [{"group": "0", "num_runs": 0, "num_seeds": 0}]


def test_a_failed_run_is_left_out_even_with_results() -> None:
    """One whose training failed has a search and operations, but no accuracy."""
    half = {**member("0", 1, state="failed"), "search": {"seconds": 1.0}, "operations": {"none": 28}}
    (row,) = summarize([member("0", 0, 0.5), half], ["0"])
    assert (row["num_runs"], row["none_mean"]) == (1, 8.0)


# ---------------------------------------------------------------- differences from cpnas


def test_differences_are_paired_by_seed() -> None:
    """The runs scatter by 0.3 between seeds, the differences by 0.01 only."""
    accuracies = {0: 0.3, 1: 0.9, 2: 0.6, 3: 0.7}
    lead = {0: 0.05, 1: 0.06, 2: 0.04, 3: 0.05}
    members = [member("cpnas", seed, accuracies[seed]) for seed in (2, 0, 3, 1)]
    members += [member("random", seed, accuracies[seed] - lead[seed]) for seed in (1, 3, 0, 2)]
    rows = by_group(summarize(members, ["random", "cpnas"]))
    found = rows["random"]["difference_from_cpnas"]
    assert found["num_seeds"] == 4
    assert found["mean"] == pytest.approx(-0.05)
    low, high = found["interval_95"]
    assert -0.06 - 1e-12 <= low <= -0.05 <= high <= -0.04 + 1e-12
    assert "difference_from_cpnas" not in rows["cpnas"]


def test_several_draws_of_a_seed_count_as_their_mean() -> None:
    members = [
        member("cpnas", 0, 0.9),
        member("cpnas", 1, 0.8),
        *(member("random", 0, accuracy, draw=draw) for draw, accuracy in enumerate((0.1, 0.2, 0.6))),
        member("random", 1, 0.6),
    ]
    row = by_group(summarize(members, ["cpnas", "random"]))["random"]
    assert (row["num_runs"], row["num_seeds"]) == (4, 2)
    # the row's own mean is over all runs
    assert row["accuracy_test_mean"] == pytest.approx((0.1 + 0.2 + 0.6 + 0.6) / 4)
    assert row["difference_from_cpnas"]["num_seeds"] == 2
    assert row["difference_from_cpnas"]["mean"] == pytest.approx(((0.3 - 0.9) + (0.6 - 0.8)) / 2)
    low, high = row["difference_from_cpnas"]["interval_95"]
    assert (low, high) == (pytest.approx(-0.6), pytest.approx(-0.2))


def test_seeds_that_one_side_lacks_are_left_out() -> None:
    members = [
        member("cpnas", 0, 0.9),
        member("cpnas", 1, 0.8),
        member("cpnas", 2, state="failed"),
        member("bnas", 1, 0.5),
        member("bnas", 2, 0.1),
        member("bnas", 3, 0.2),
        member("pcdarts", 2, 0.3),
        member("pcdarts", 0, state="unfinished"),
    ]
    rows = by_group(summarize(members, ["cpnas", "bnas", "pcdarts", "random"]))
    assert rows["bnas"]["difference_from_cpnas"] == {
        "num_seeds": 1,
        "mean": pytest.approx(-0.3),
        "interval_95": None,
    }
    assert rows["bnas"]["num_runs"] == 3
    # no seed in common, and no run at all
    assert "difference_from_cpnas" not in rows["pcdarts"]
    assert "difference_from_cpnas" not in rows["random"]


@pytest.mark.parametrize("groups", [["0", "2"], ["bnas", "random"]])
def test_without_cpnas_there_are_no_differences(groups: list[str]) -> None:
    members = [member(group, seed) for group in groups for seed in range(3)]
    assert not any("difference_from_cpnas" in row for row in summarize(members, groups))


def test_without_a_finished_cpnas_there_are_no_differences() -> None:
    members = [member("cpnas", 0, state="failed"), member("bnas", 0)]
    assert not any("difference_from_cpnas" in row for row in summarize(members, ["cpnas", "bnas"]))


def test_equal_accuracies_differ_by_nothing() -> None:
    members = [member(group, seed, 0.1 * seed) for group in ("cpnas", "bnas") for seed in range(3)]
    found = by_group(summarize(members, ["cpnas", "bnas"]))["bnas"]["difference_from_cpnas"]
    assert found == {"num_seeds": 3, "mean": 0.0, "interval_95": (0.0, 0.0)}


# ---------------------------------------------------------------- warnings


@pytest.mark.parametrize(
    ("num_seeds", "chance"), [(1, "100 %"), (2, "50 %"), (3, "25 %"), (4, "12.5 %"), (5, "6.25 %")]
)
def test_few_seeds_are_warned_of_with_the_chance_of_one_side(num_seeds: int, chance: str) -> None:
    """2^(1 - n), counted over all sides that n seeds can fall on."""
    sides = [format(number, f"0{num_seeds}b") for number in range(2**num_seeds)]
    assert float(chance.split()[0]) == 100 * sum(len(set(side)) == 1 for side in sides) / len(sides)
    (warning,) = warnings_of([member("0", seed) for seed in range(num_seeds)], num_seeds)
    assert warning.startswith(f"n = {num_seeds} {'seed is' if num_seeds == 1 else 'seeds are'} too few")
    assert f" in {chance} of cases" in warning
    assert warning.endswith("use 6 or more")


@pytest.mark.parametrize("num_seeds", [6, 7, 20])
def test_enough_seeds_are_not_warned_of(num_seeds: int) -> None:
    assert warnings_of([member("0", seed) for seed in range(num_seeds)], num_seeds) == []


def test_failures_are_named() -> None:
    members = [member("0", seed) for seed in range(5)]
    members += [member("1", 3, state="failed"), member("2", 4, state="failed"), member("3", 5, state="unfinished")]
    (warning,) = warnings_of(members, 6)
    assert warning == "2 of 8 members failed and are missing: 1-seed-3-draw-0, 2-seed-4-draw-0"


def test_failures_come_before_few_seeds() -> None:
    first, second = warnings_of([member("0", 0, state="failed")], 1)
    assert "1 of 1 members failed" in first
    assert "too few" in second


def test_an_experiment_that_has_just_begun_has_no_failures() -> None:
    assert warnings_of([member("0", seed, state="unfinished") for seed in range(6)], 6) == []
    assert warnings_of([], 6) == []


def searched(name: str, beta_p: float, slope: float | None) -> dict[str, Any]:
    search = {"parent_slope": slope}
    return {
        "name": f"{name} {beta_p} {slope}",
        "state": "finished",
        "indicator": name,
        "beta_p": beta_p,
        "search": search,
    }


def test_searches_that_prefer_worse_children_are_named() -> None:
    """Slopes on both sides of 1 - 1 / beta_P; a member of another strategy has none."""
    members = [searched("printed", 2.0, 0.4), searched("printed", 2.0, 0.6), searched("penalized", 2.0, 0.4)]
    (warning,) = warnings_of([*members, searched("penalized", 0.0, None), {"name": "x", "state": "finished"}], 6)
    assert warning.startswith("1 of 3 searches with a Parent prefer worse Children")
    assert warning.endswith(": printed 2.0 0.4")
    assert warnings_of(members[1:], 6) == []
