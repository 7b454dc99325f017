"""What can give an architecture a score before it is trained: columns of the table, and the draws of a search."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpnas_cli.experiments.ranking.table import ArchitectureTable
from cpnas_cli.search_space import ALL_CANDIDATES, CELL_KINDS, NONE, Genotype
from cpnas_cli.strategies.additive_effects import Effects, additive_effects
from cpnas_cli.strategies.cpnas.credit import ValidatedDraw, effects_of_all_draws
from cpnas_cli.strategies.cpnas.indicator import INDICATORS, indicator

BETAS = (0.25, 0.5, 1.0, 2.0)
SIGNS = tuple(INDICATORS)
NUM_FOLDS = 5

Scores = dict[str, NDArray[np.float64]]
"""{name: a number for every genotype of the table}, the larger the better."""


def indicators(
    accuracy_child: NDArray[np.float64], accuracy_parent: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """z of both signs at several beta_P, of accuracies of the same architectures; see `indicator`."""
    z = {"A_C alone (beta_P = 0)": accuracy_child}
    for sign in SIGNS:
        for beta_p in BETAS:
            pairs = zip(accuracy_child.tolist(), accuracy_parent.tolist(), strict=True)
            z[f"{sign}, beta_P = {beta_p:g}"] = np.array(
                [indicator(accuracy_child=a_c, accuracy_parent=a_p, beta_p=beta_p, name=sign) for a_c, a_p in pairs]
            )
    return z


def trivial_scores(table: ArchitectureTable) -> Scores:
    """What anybody could rank by without training anything."""
    parameters = {} if table.num_parameters_G is None else {"number of parameters": table.num_parameters_G}
    return {
        **parameters,
        "bits of the packed network": table.size_bits_G,
        "OPs": table.ops_G,
        "multiply-adds": table.macs_G,
        "edges that are not none": np.array(
            [sum(op != NONE for cell in g.cells().values() for op in cell) for g in table.genotypes], float
        ),
    }


def training_scores(table: ArchitectureTable, seed_index: int) -> Scores:
    """Of one of the table's trainings: its indicators, and what its first epochs say."""
    scores = indicators(table.accuracy_child_GS[:, seed_index], table.accuracy_parent_GS[:, seed_index])
    num_epochs = table.loss_child_GSE.shape[2]
    for share in (4, 2):
        first = max(num_epochs // share, 1)
        scores[f"training losses of the first {first} of {num_epochs} epochs"] = -table.loss_child_GSE[
            :, seed_index, :first
        ].sum(1)
    return scores


def left_out_effects(table: ArchitectureTable, seed_index: int) -> NDArray[np.float64]:
    """A_C as the sum of effects that the other genotypes show: every fifth one is left out in turn.

    What an additive model of the space could know at best from so many fully trained architectures.
    """
    scores = np.empty(len(table.genotypes))
    folds = np.arange(len(table.genotypes)) % NUM_FOLDS
    for fold in range(NUM_FOLDS):
        kept = np.flatnonzero(folds != fold)
        effects = additive_effects(
            [table.genotypes[i] for i in kept],
            table.accuracy_child_GS[kept, seed_index].tolist(),
            ALL_CANDIDATES,
            common=True,
        )
        for index in np.flatnonzero(folds == fold):
            scores[index] = sum_of(effects, table.genotypes[index])
    return scores


def sum_of(effects: Effects, genotype: Genotype) -> float:
    return sum(effects[kind][edge][op] for kind, cell in genotype.cells().items() for edge, op in enumerate(cell))


Credit = Callable[[Sequence[Genotype], Sequence[float], Sequence[int]], Effects]
"""From drawn genotypes, their values and the rounds in which they were drawn, what every operation is worth."""


def credit_of_draws(genotypes: Sequence[Genotype], values: Sequence[float], rounds: Sequence[int]) -> Effects:
    """The mean over an operation's draws of their value less the mean of their round, as Algorithm 9 gives z."""
    values_N, rounds_N = np.asarray(values), np.asarray(rounds)
    means = {number: values_N[rounds_N == number].mean() for number in set(rounds)}
    given: dict[tuple[str, int, str], list[float]] = {}
    for genotype, value, number in zip(genotypes, values, rounds, strict=True):
        for kind, cell in genotype.cells().items():
            for edge, op in enumerate(cell):
                given.setdefault((kind, edge, op), []).append(value - means[number])
    return {
        kind: [
            {op: float(np.mean(given.get((kind, edge, op), [0.0]))) for op in alive} for edge, alive in enumerate(cell)
        ]
        for kind, cell in ALL_CANDIDATES.cells().items()
    }


def credit_by_regression(genotypes: Sequence[Genotype], values: Sequence[float], rounds: Sequence[int]) -> Effects:
    """As `search.credit=regression` gives it; see `effects_of_all_draws`."""
    within: Counter[int] = Counter()
    draws = []
    for genotype, value, number in zip(genotypes, values, rounds, strict=True):
        draws.append(ValidatedDraw(genotype, value, (number, within[number])))
        within[number] += 1
    return effects_of_all_draws(draws, ALL_CANDIDATES)


CREDITS: dict[str, Credit] = {"draw": credit_of_draws, "regression": credit_by_regression}


MEASURES = ("accuracy_child", "accuracy_parent", "probability_child", "probability_parent", "z")
"""What a draw's own record says of it, or that of its pass."""


def evaluated_draws(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records of the draws that were evaluated, with their `MEASURES`, also where those are in that of the pass."""
    draws: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    for record in history:
        if record.get("event") == "draw":
            (draws if record.get("accuracy_child") is not None else waiting).append(dict(record))
        elif record.get("event") == "pass":
            for name in MEASURES:
                values = record[name] if record.get(name) is not None else [None] * len(waiting)
                for draw, value in zip(waiting, values, strict=True):
                    draw[name] = value
            draws += waiting
            waiting = []
    return draws


def search_scores(history: Sequence[Mapping[str, Any]], genotypes: Sequence[Genotype]) -> Scores:
    """What the draws of a search say of these genotypes, by either credit and every indicator that it can have.

    Of accuracies, and of probabilities where the search judged by them.

    Args:
      history: of a search that evaluated what it drew; records of other kinds are passed over.
    """
    draws = evaluated_draws(history)
    drawn = [Genotype(**{kind: tuple(draw[kind]) for kind in CELL_KINDS}) for draw in draws]
    rounds = [_round_of(draw) for draw in draws]
    if not draws:
        return {}
    values = _values_of(draws, "accuracy")
    if all(draw.get("probability_child") is not None for draw in draws):
        values |= {f"{name}; of probabilities": z for name, z in _values_of(draws, "probability").items()}
    elif any(draw["z"] != draw["accuracy_child"] for draw in draws) and draws[0].get("accuracy_parent") is None:
        values["z, by which it chose"] = np.array([draw["z"] for draw in draws])
    scores: Scores = {}
    for credit, effects_of in CREDITS.items():
        for name, z in values.items():
            effects = effects_of(drawn, z.tolist(), rounds)
            scores[f"{name}; credit {credit}"] = np.array([sum_of(effects, genotype) for genotype in genotypes])
    return scores


def _round_of(draw: Mapping[str, Any]) -> int:
    """Rises from one round of the search to the next; of draws that differ in how well their weights are trained."""
    return draw["round"] if "round" in draw else -draw["num_candidates"]


def _values_of(draws: Sequence[Mapping[str, Any]], measure: str) -> dict[str, NDArray[np.float64]]:
    child = np.array([draw[f"{measure}_child"] for draw in draws])
    if any(draw.get(f"{measure}_parent") is None for draw in draws):
        return {"A_C alone (beta_P = 0)": child}
    return indicators(child, np.array([draw[f"{measure}_parent"] for draw in draws]))
