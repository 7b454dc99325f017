"""The Child-Parent indicator (4.15) with either sign of the gap, the evaluation of operations (4.16), and abandoning.

Pure functions over plain numbers. Equation numbers are those of "Binary Neural Architecture Search",
section 4.3 (Zhuo et al., "CP-NAS: Child-Parent Neural Architecture Search for 1-bit CNNs",
IJCAI 2020, arXiv 2005.00057).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cpnas_cli.search_space import EDGES, INPUT_EDGES, NONE, OPERATIONS, CellCandidates

CellEvaluation = tuple[dict[str, float], ...]
"""e(o_k) of the operations alive on each of the 14 edges."""


def printed_indicator(*, accuracy_child: float, accuracy_parent: float, beta_p: float) -> float:
    """z = beta_P * (A_P - A_C) + A_C, the performance of a drawn architecture: the gap is rewarded.

    where:
      A_C, A_P: validation accuracies of Child and Parent, fractions in [0, 1];
      beta_P: weight of the gap between them, 0 or more; 0 leaves the Child alone (BNAS-dagger).

    Source: (4.15), exactly as printed.
    """
    return beta_p * (accuracy_parent - accuracy_child) + accuracy_child


def penalized_indicator(*, accuracy_child: float, accuracy_parent: float, beta_p: float) -> float:
    """z = A_C - beta_P * (A_P - A_C), the performance of a drawn architecture: the gap is a loss.

    where: as in `printed_indicator`.

    Source: the text around (4.15), by which the loss of performance between Parent and Child is to be small, and fewer
    convolutions are selected as beta_P grows.

    Differs from the paper: the sign of the gap is that of the text, not that of the printed formula.
    """
    return accuracy_child - beta_p * (accuracy_parent - accuracy_child)


INDICATORS: dict[str, Callable[..., float]] = {"penalized": penalized_indicator, "printed": printed_indicator}
"""By their names in `search.indicator`."""


def indicator(*, accuracy_child: float, accuracy_parent: float | None, beta_p: float, name: str) -> float:
    """z by the indicator of this name; at beta_P = 0, where both are A_C, no Parent is asked for."""
    if beta_p == 0:
        return accuracy_child
    if accuracy_parent is None:
        raise ValueError(f"beta_P = {beta_p:g} needs the accuracy of the Parent")
    return INDICATORS[name](accuracy_child=accuracy_child, accuracy_parent=accuracy_parent, beta_p=beta_p)


def parent_slope(accuracies_child: Sequence[float], accuracies_parent: Sequence[float]) -> float | None:
    """b = cov(A_P, A_C) / var(A_C), the slope of A_P regressed on A_C over draws; None where A_C does not vary."""
    if len(set(accuracies_child)) < 2:
        return None
    mean_child, mean_parent = mean_indicator(accuracies_child), mean_indicator(accuracies_parent)
    moved = [value - mean_child for value in accuracies_child]
    covariance = math.fsum(x * (y - mean_parent) for x, y in zip(moved, accuracies_parent, strict=True))
    return covariance / math.fsum(x * x for x in moved)


def prefers_worse_children(*, name: str, beta_p: float, slope: float) -> bool:
    """Whether cov(z, A_C) < 0 over the draws: of two of them the better Child has, on average, the lower z.

    cov(z, A_C) / var(A_C) = 1 - beta_P (1 - b) as printed, 1 + beta_P (1 - b) with the gap penalized.
    """
    return INDICATORS[name](accuracy_child=1.0, accuracy_parent=slope, beta_p=beta_p) < 0


def warning_about(*, name: str, beta_p: float, slope: float) -> str | None:
    """What a user should know of a search whose draws had this slope, in one sentence; None: nothing."""
    if not prefers_worse_children(name=name, beta_p=beta_p, slope=slope):
        return None
    limit = 1 / abs(1 - slope)
    other = "--indicator penalized, or " if name == "printed" else ""
    return (
        f"this search prefers worse Children: with the {name} indicator at beta_P = {beta_p:g}, and a Parent that "
        f"gains {slope:.2f} where its Child gains 1, z falls as the Child gets better; "
        f"use {other}a --beta-p below {limit:.2g}"
    )


def warning_of(provenance: Mapping[str, Any]) -> str | None:
    """`warning_about` the search of which a genotype's provenance tells; None: nothing, or it has no Parent."""
    slope, name, beta_p = (provenance.get(key) for key in ("parent_slope", "indicator", "beta_p"))
    if slope is None or name is None or beta_p is None:
        return None
    return warning_about(name=name, beta_p=beta_p, slope=slope)


def mean_indicator(values: Sequence[float]) -> float:
    """The mean of z over the T passes, the same whatever the order of the passes.

    The order matters for ties: three equal multisets of accuracies must give three equal means.
    """
    return math.fsum(values) / len(values)


def evaluate_operations(mean_z: Mapping[str, float]) -> dict[str, float]:
    """e(o_k) = exp(mean_t z_k) / sum_k' exp(mean_t z_k'), for the operations of one edge.

    where mean_z maps each operation still alive on the edge to its mean indicator.

    Source: (4.16). The maximum is subtracted before exp, which leaves e as it is and cannot overflow.
    """
    largest = max(mean_z.values())
    exponentials = {op: math.exp(value - largest) for op, value in mean_z.items()}
    total = math.fsum(exponentials.values())
    return {op: value / total for op, value in exponentials.items()}


def weakest(evaluation: Mapping[str, float], costliness: Mapping[str, float] | None = None) -> str:
    """The operation with the smallest e; of equal ones the one with the greatest costliness, where it is given.

    A tie goes to the operation that stands first in `search_space.OPERATIONS` (ours): `none` is given up
    before any connection, a connection without weights before a convolution.
    """
    costs = costliness or {}
    return min(evaluation, key=lambda op: (evaluation[op], -costs.get(op, 0.0), OPERATIONS.index(op)))


def stay_without(evaluations: CellEvaluation, abandoned: Sequence[str]) -> CellCandidates:
    """The candidates of every edge, in the order of `search_space.OPERATIONS`, without the abandoned one."""
    return tuple(
        tuple(op for op in OPERATIONS if op in e and op != gone) for e, gone in zip(evaluations, abandoned, strict=True)
    )


def abandon(evaluations: CellEvaluation) -> tuple[CellCandidates, tuple[str, ...]]:
    """Abandon, on every edge, the operation with the smallest e.

    Returns the candidates that stay (per edge, in the order of `search_space.OPERATIONS`) and the
    operation abandoned on each edge.

    Differs from the paper, which has no rule for it (ours): when the last abandoning would leave
    `none` on every edge that leaves an input node, the cell would not depend on its inputs. Then, on
    the one input edge where `none` leads by the least, `none` is abandoned and its rival stays; equal
    leads go to the first edge in the order of `search_space.EDGES`.
    """
    abandoned = [weakest(evaluation) for evaluation in evaluations]
    stay = list(stay_without(evaluations, abandoned))
    if all(stay[edge] == (NONE,) for edge in INPUT_EDGES):
        edge = min(INPUT_EDGES, key=lambda i: evaluations[i][NONE] - evaluations[i][abandoned[i]])
        stay[edge], abandoned[edge] = (abandoned[edge],), NONE
    assert len(stay) == len(EDGES)
    return tuple(stay), tuple(abandoned)
