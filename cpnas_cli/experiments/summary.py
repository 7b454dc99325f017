"""What the members of an experiment say together: means, deviations, and differences with their uncertainty."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from cpnas_cli.networks.operations.base import FAMILIES, operation_of
from cpnas_cli.search_space import OPERATIONS
from cpnas_cli.strategies import reference_strategy
from cpnas_cli.strategies.cpnas.indicator import prefers_worse_children

CONFIDENCE = 0.95
NUM_RESAMPLES = 9999
# With fewer seeds even differences that all have one sign are no surprise: 2 / 2^5 = 6.25 % by chance.
FEWEST_SEEDS = 6


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of a sample (n - 1); None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def bootstrap_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of a mean (Efron and Tibshirani, 1993, section 13.3).

    Args:
      differences: one per seed; resampled with replacement 9,999 times, always in the same way.

    Returns None for fewer than 2.
    """
    if len(differences) < 2:
        return None
    answer = bootstrap(
        (np.asarray(differences),),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=NUM_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = answer.confidence_interval
    return float(low), float(high)


def family_counts(operations: Mapping[str, int]) -> dict[str, int]:
    """How many of the edges of both cells are convolutions, pools, skips and none."""
    counts: dict[str, int] = dict.fromkeys(FAMILIES, 0)
    for op in OPERATIONS:
        counts[operation_of(op).family] += operations.get(op, 0)
    return counts


def summarize(members: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> list[dict[str, Any]]:
    """One row per group, over its finished members; the last epoch's accuracies, never the best.

    Args:
      members: as in `experiment.json`.
      groups: in the order of the table.
    """
    finished = [member for member in members if member["state"] == "finished"]
    by_group = {group: [member for member in finished if member["group"] == group] for group in groups}
    name = reference_strategy().name
    reference = _mean_by_seed(by_group.get(name, []))
    return [_row(group, rows, reference if group != name else {}) for group, rows in by_group.items()]


def _row(group: str, rows: Sequence[Mapping[str, Any]], reference: Mapping[int, float]) -> dict[str, Any]:
    by_seed = _mean_by_seed(rows)
    row: dict[str, Any] = {"group": group, "num_runs": len(rows), "num_seeds": len(by_seed)}
    if not rows:
        return row
    mean, deviation = mean_and_deviation([member["accuracy_test"] for member in rows])
    row |= {"accuracy_test_mean": mean, "accuracy_test_std": deviation}
    for name, value in (
        ("search_seconds", lambda member: member["search"]["seconds"]),
        ("search_epochs", lambda member: member["search"]["num_epochs"]),
        ("num_parameters", lambda member: member["num_parameters"]),
        ("size_bits", lambda member: member["size_bits"]),
    ):
        row[f"{name}_mean"], row[f"{name}_std"] = mean_and_deviation([float(value(member)) for member in rows])
    counts = [family_counts(member["operations"]) for member in rows]
    for family in FAMILIES:
        row[f"{family}_mean"], row[f"{family}_std"] = mean_and_deviation([float(count[family]) for count in counts])
    differences = [by_seed[seed] - reference[seed] for seed in sorted(by_seed.keys() & reference.keys())]
    if differences:
        row["difference_from_cpnas"] = {
            "num_seeds": len(differences),
            "mean": math.fsum(differences) / len(differences),
            "interval_95": bootstrap_interval(differences),
        }
    return row


def _mean_by_seed(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Runs of one seed share data split and initial weights: they are paired, and several draws count as one."""
    accuracies: dict[int, list[float]] = {}
    for member in rows:
        accuracies.setdefault(member["seed"], []).append(member["accuracy_test"])
    return {seed: statistics.fmean(values) for seed, values in accuracies.items()}


def _prefers_worse_children(member: Mapping[str, Any]) -> bool:
    slope = member["search"]["parent_slope"]
    return prefers_worse_children(name=member["indicator"], beta_p=member["beta_p"], slope=slope)


def warnings_of(members: Sequence[Mapping[str, Any]], num_seeds: int) -> list[str]:
    """What keeps the figures from saying more than they do."""
    found = []
    failed = [member["name"] for member in members if member["state"] == "failed"]
    if failed:
        found.append(f"{len(failed)} of {len(members)} members failed and are missing: {', '.join(failed)}")
    slopes = [member for member in members if member.get("search", {}).get("parent_slope") is not None]
    turned = [member["name"] for member in slopes if _prefers_worse_children(member)]
    if turned:
        found.append(
            f"{len(turned)} of {len(slopes)} searches with a Parent prefer worse Children, as z falls where the "
            f"Child gets better; try --set search.indicator=penalized or a smaller beta_P: {', '.join(turned)}"
        )
    if num_seeds < FEWEST_SEEDS:
        chance = 100 * 2 ** (1 - num_seeds)
        found.append(
            f"n = {num_seeds} {'seed is' if num_seeds == 1 else 'seeds are'} too few to call any difference real: "
            f"all seeds favour the same side in {chance:.3g} % of cases by chance alone; use {FEWEST_SEEDS} or more"
        )
    return found
