"""How much each operation on each edge adds to the performance of an architecture: least squares over many of them.

A pure function of plain data; the search of Algorithm 9 gives credit with it, and other strategies may.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from cpnas_cli.search_space import CELL_KINDS, EDGES, OPERATIONS, Candidates, Genotype

Effects = dict[str, list[dict[str, float]]]
"""{kind: [{operation: effect} of edge 0..13]}."""

Position = tuple[int, int]
"""The round in which an architecture was evaluated, and how many were before it in that round."""

COMMON_SHARES = (0.0, 0.5, 0.8, 0.95)
"""The shares of an effect's variance that are tried as common to the operation, wherever it stands."""

SHRINKAGES = np.logspace(-4, 4, 801)
"""The lambda that are tried, as multiples of the mean of the squared singular values."""

DECIMALS = 12
"""To which effects are rounded: equal ones stay equal whatever the order in which a processor adds."""


def additive_effects(
    genotypes: Sequence[Genotype],
    values: Sequence[float],
    candidates: Candidates,
    positions: Sequence[Position] | None = None,
    *,
    common: bool = False,
) -> Effects:
    """The additive effects u of the candidates, by ridge regression with a lambda that the data choose.

        minimize  sum_n (y_n - f_n - sum_edge u[edge, op_n(edge)])^2 + lambda sum u^2

    where:
      y: the values; any unit, of which the effects are too;
      op_n(edge): the operation of architecture n on one of the 28 edges of both cells;
      f: what is no merit of the operations and is not shrunk: a mean; with positions a mean per round and one slope
        over the position within a round, common to all rounds;
      lambda: the ratio of the noise's variance to that of the effects which is most likely, given the data (REML:
        Patterson and Thompson, Biometrika 1971), out of `SHRINKAGES`. Where all are equally likely, as when no two
        architectures share an operation, the one nearest to equal variances of noise and of the data's effects.

    Args:
      genotypes: of the evaluated architectures; operations that are no candidates any more count all the same.
      values: one per genotype.
      candidates: whose effects are asked for.
      common: whether a part of an effect may be the operation's own, on every edge (a half) or on every edge of its
        kind of cell (the other half): u = sqrt(1 - s) v[edge, op] + sqrt(s / 2) (v[kind, op] + v[op]), all v shrunk
        alike, with the s of `COMMON_SHARES` that is most likely (ours). Few architectures say little of 224 effects
        and more of 8.

    Returns the effects, centred on every edge over its candidates; of one that no architecture has, what is known of
    it: nothing, which is 0 before centring.
    """
    y_N = np.asarray(values, dtype=np.float64)
    u_EO = np.zeros((len(CELL_KINDS) * len(EDGES), len(OPERATIONS)))
    if len(y_N):
        basis_NF = _orthonormal_basis(_no_merit(len(y_N), positions))
        y_N = y_N - basis_NF @ (basis_NF.T @ y_N)
        fits = []
        for share in COMMON_SHARES if common else COMMON_SHARES[:1]:
            levels_PV = _levels(share)
            x_NV = _one_hot(genotypes) @ levels_PV
            x_NV = x_NV - basis_NF @ (basis_NF.T @ x_NV)
            deviance, v_V = _ridge(x_NV, y_N, num_free=len(y_N) - basis_NF.shape[1])
            fits.append((deviance, levels_PV @ v_V))
        _, u_P = min(fits, key=lambda fit: fit[0])  # of equally likely ones the first
        u_EO = u_P.reshape(u_EO.shape)
    return _centred(u_EO, candidates)


def _levels(share: float) -> NDArray[np.float64]:
    """(P, V): how the effects of operations on edges are made of those on edges, in kinds of cells, and anywhere."""
    num_edges, num_ops = len(EDGES), len(OPERATIONS)
    on_edge = np.eye(len(CELL_KINDS) * num_edges * num_ops)
    if not share:
        return on_edge
    in_kind = np.kron(np.eye(len(CELL_KINDS)), np.kron(np.ones((num_edges, 1)), np.eye(num_ops)))
    anywhere = np.kron(np.ones((len(CELL_KINDS) * num_edges, 1)), np.eye(num_ops))
    return np.hstack([np.sqrt(1 - share) * on_edge, np.sqrt(share / 2) * in_kind, np.sqrt(share / 2) * anywhere])


def _one_hot(genotypes: Sequence[Genotype]) -> NDArray[np.float64]:
    """(N, 28 * 8)"""
    column = {op: index for index, op in enumerate(OPERATIONS)}
    chosen_NE = np.array([[column[op] for cell in g.cells().values() for op in cell] for g in genotypes])
    return np.eye(len(OPERATIONS))[chosen_NE].reshape(len(genotypes), -1)


def _no_merit(num_values: int, positions: Sequence[Position] | None) -> NDArray[np.float64]:
    """(N, a column per round and one of the position within it); without positions a column of ones."""
    if positions is None:
        return np.ones((num_values, 1))
    rounds_N, within_N = np.array(positions).T
    is_round_NR = (rounds_N[:, None] == np.unique(rounds_N)).astype(np.float64)
    return np.column_stack([is_round_NR, within_N])


def _orthonormal_basis(columns_NF: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of what the columns span, which may depend on each other."""
    u_NF, s_F, _ = np.linalg.svd(columns_NF, full_matrices=False)
    return u_NF[:, s_F > 1e-10 * s_F.max()]


def _ridge(x_NV: NDArray[np.float64], y_N: NDArray[np.float64], *, num_free: int) -> tuple[float, NDArray[np.float64]]:
    """-2 log of the restricted likelihood but for a constant, and the coefficients (V,): zeros where nothing is known.

    Args:
      x_NV, y_N: without what is no merit. num_free: the dimensions that are left of N.
    """
    u_NK, s_K, v_KV = np.linalg.svd(x_NV, full_matrices=False)
    known = s_K > 1e-10 * max(len(y_N), 1)
    u_NK, s_K, v_KV = u_NK[:, known], s_K[known], v_KV[known]
    coordinates_K = u_NK.T @ y_N
    if not len(s_K) or np.abs(y_N).max() < 1e-12:
        return 0.0, np.zeros(x_NV.shape[1])
    residual = max(float(y_N @ y_N - coordinates_K @ coordinates_K), 0.0)
    deviance, shrinkage = _most_likely_lambda(s_K**2, coordinates_K**2, residual=residual, num_free=num_free)
    return deviance, v_KV.T @ (s_K / (s_K**2 + shrinkage) * coordinates_K)


def _most_likely_lambda(
    squares_K: NDArray[np.float64], powers_K: NDArray[np.float64], *, residual: float, num_free: int
) -> tuple[float, float]:
    """The least -2 log of the restricted likelihood, with the scale of the variances profiled out, and its lambda.

    Args:
      squares_K: squared singular values. powers_K: squared coordinates of y along them.
      residual: sum of squares of y across them. num_free: dimensions of y.
    """
    lambdas_L = SHRINKAGES * squares_K.mean()
    variances_LK = squares_K + lambdas_L[:, None]
    num_across = num_free - len(squares_K)
    fit_L = (powers_K / variances_LK).sum(1) + (residual / lambdas_L if num_across else 0.0)
    deviance_L = num_free * np.log(fit_L) + np.log(variances_LK).sum(1) + num_across * np.log(lambdas_L)
    likely = np.flatnonzero(deviance_L <= deviance_L.min() + 1e-9 * num_free)
    middle = len(SHRINKAGES) // 2
    return float(deviance_L.min()), float(lambdas_L[likely[np.abs(likely - middle).argmin()]])


def _centred(u_EO: NDArray[np.float64], candidates: Candidates) -> Effects:
    effects: Effects = {kind: [] for kind in CELL_KINDS}
    for (kind, edge), u_O in zip(product(CELL_KINDS, range(len(EDGES))), u_EO, strict=True):
        alive = candidates.cells()[kind][edge]
        of_alive = {op: float(u_O[OPERATIONS.index(op)]) for op in alive}
        mean = sum(of_alive.values()) / len(alive)
        effects[kind].append({op: round(value - mean, DECIMALS) for op, value in of_alive.items()})
    return effects
