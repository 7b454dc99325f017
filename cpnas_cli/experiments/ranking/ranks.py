"""How well a score ranks architectures, and how good its first choice is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Rank:
    """Of one score against accuracies.

    Attributes:
      tau: Kendall's tau-b. interval: its 95 % percentile bootstrap interval over the genotypes.
      regret: points of accuracy by which the genotype of the largest score stays behind the best one (a fraction).
      share_beaten: share of all other genotypes that it is above; a random draw has 1/2 on average.
    """

    tau: float
    interval: tuple[float, float]
    regret: float
    share_beaten: float


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Scores and accuracies of the same genotypes."""


def rank(pairs: Sequence[Pair]) -> Rank:
    """Rank accuracies by scores, the mean over several pairs of the same genotypes.

    Equal scores share their place, and the first choice is their mean.
    """
    generator = np.random.default_rng(0)
    num = len(pairs[0][0])
    samples = (generator.integers(0, num, num) for _ in range(NUM_RESAMPLES))
    counts_RG = np.array([np.bincount(sample, minlength=num) for sample in samples], np.float64)
    resampled_R = np.mean([taus_of_resamples(*pair, counts_RG) for pair in pairs], axis=0)
    low, high = np.percentile(resampled_R, [2.5, 97.5])
    firsts = [first_choice(*pair) for pair in pairs]
    return Rank(
        tau=float(np.mean([tau_of(*pair) for pair in pairs])),
        interval=(float(low), float(high)),
        regret=float(np.mean([regret for regret, _ in firsts])),
        share_beaten=float(np.mean([share for _, share in firsts])),
    )


def first_choice(scores_G: NDArray[np.float64], accuracies_G: NDArray[np.float64]) -> tuple[float, float]:
    """Regret and share beaten of the genotypes of the largest score, on average; see `Rank`."""
    return chosen(np.flatnonzero(scores_G == scores_G.max()), accuracies_G)


def chosen(indices: NDArray[np.intp], accuracies_G: NDArray[np.float64]) -> tuple[float, float]:
    """Regret and share beaten of these genotypes, on average; see `Rank`."""
    beaten = [float((accuracies_G < accuracies_G[index]).sum() / (len(accuracies_G) - 1)) for index in indices]
    return float(accuracies_G.max() - accuracies_G[indices].mean()), float(np.mean(beaten))


def tau_of(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Kendall's tau-b (Kendall 1945); 0 where one of them is constant, which ranks nothing."""
    answer: Any = kendalltau(first, second)
    return 0.0 if np.isnan(answer.statistic) else float(answer.statistic)


def taus_of_resamples(
    first_G: NDArray[np.float64], second_G: NDArray[np.float64], counts_RG: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`tau_of` of every resample at once, of which `counts_RG` says how often it holds each genotype.

    A pair counts as often as the product of the counts of its two; a genotype and its copy are tied in both.
    """
    signs_GG, others_GG = (np.sign(values[:, None] - values) for values in (first_G, second_G))
    concordant_R, untied_R, others_untied_R = (
        ((counts_RG @ pairs_GG) * counts_RG).sum(axis=1)
        for pairs_GG in (signs_GG * others_GG, abs(signs_GG), abs(others_GG))
    )
    most_R = np.sqrt(untied_R * others_untied_R)
    return np.divide(concordant_R, most_R, out=np.zeros_like(most_R), where=most_R > 0)
