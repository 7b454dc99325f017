"""One operation for every edge of both cells, the best within all budgets: a mixed-integer linear program.

    maximize    sum_e sum_o  score(e, o) x(e, o) + sum_n  score(n) y(n)
    subject to  sum_o x(e, o) = 1                     on every edge e
                fixed + sum_e sum_o most(e, o) x(e, o) + sum_n node(n) y(n) <= limit          for every budget
                y(n) >= sum_o' x(e, o')               for every edge e that enters node n
                sum x(e, o') >= 1                     over the edges that leave an input node
                sum x(e, o') = m                      over the edges that enter a node, where m is given

where x is 0 or 1, o' are the operations but `none`, and y says whether a node is reached. What an edge takes counts
even where it leaves a dead node: what is chosen never takes more than this says, and mostly just that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array, csr_array, vstack

from cpnas_cli.search_space import (
    CELL_KINDS,
    EDGES,
    INPUT_EDGES,
    NONE,
    NUM_EDGES,
    NUM_INPUT_NODES,
    NUM_INTERMEDIATE_NODES,
    NUM_OPERATIONS,
    OPERATIONS,
)
from cpnas_cli.strategies.budgets.demand import SHAPE, Demand, genotype_at, is_within

_NUM_CHOICES = int(np.prod(SHAPE))
_NUM_NODES = len(CELL_KINDS) * NUM_INTERMEDIATE_NODES
_KEPT_BACK = 1e-6  # of a limit: what the solver may take for equal


@dataclass(frozen=True)
class Choice:
    """What the program found, `SHAPE` each: the chosen operations, and those that are given up (see `best_choice`)."""

    chosen: np.ndarray
    given_up: np.ndarray


@dataclass
class _Rows:
    """Growing constraints: low <= a x <= high."""

    num_columns: int
    parts: list[csr_array] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, columns: Sequence[int], values: ArrayLike, low: float, high: float) -> None:
        numbers = np.broadcast_to(values, len(columns))
        row = coo_array((numbers, (np.zeros(len(columns), int), columns)), shape=(1, self.num_columns))
        self.parts.append(row.tocsr())
        self.low.append(low)
        self.high.append(high)


def best_choice(
    score: np.ndarray,
    allowed: np.ndarray,
    limits: Sequence[tuple[Demand, float]],
    *,
    node_score: np.ndarray | None = None,
    num_incoming: int | None = None,
    giving_up: bool = False,
) -> Choice | None:
    """The program of the module's text; None if nothing is within the budgets.

    Args:
      score: float64, `SHAPE`. allowed: bool, `SHAPE`; the operations that an edge may have.
      limits: of each budget what genotypes take, and how much of it may be.
      node_score: float64, (2, 4), at most 0; None: all 0. num_incoming: m; None: any.
      giving_up: of every edge one operation is given up as well, another than the chosen one, and `score` is summed
        over those that are not given up: what stays then holds a choice within the budgets.
    """
    found = _solved(score, allowed, limits, 0.0, node_score, num_incoming, giving_up)
    if found is not None and not _is_within(found.chosen, limits):
        return _solved(score, allowed, limits, _KEPT_BACK, node_score, num_incoming, giving_up)
    return found


def _is_within(chosen: np.ndarray, limits: Sequence[tuple[Demand, float]]) -> bool:
    genotype = genotype_at(chosen)
    return all(is_within(demand.of(genotype), limit) for demand, limit in limits)


def _solved(
    score: np.ndarray,
    allowed: np.ndarray,
    limits: Sequence[tuple[Demand, float]],
    kept_back: float,
    node_score: np.ndarray | None,
    num_incoming: int | None,
    giving_up: bool,
) -> Choice | None:
    """See `best_choice`; `kept_back` is the part of every limit that is not used."""
    columns = 2 * _NUM_CHOICES + _NUM_NODES if giving_up else _NUM_CHOICES + _NUM_NODES
    rows = _Rows(columns)
    _one_on_every_edge(rows, offset=0)
    _connected(rows)
    for demand, limit in limits:
        _within(rows, demand, limit * (1 - kept_back))
    if num_incoming is not None:
        _entered(rows, num_incoming)
    upper = np.ones(columns)
    upper[:_NUM_CHOICES] = allowed.ravel()
    objective = np.zeros(columns)
    if giving_up:
        first = _NUM_CHOICES + _NUM_NODES
        _one_on_every_edge(rows, offset=first)
        for index in np.flatnonzero(allowed).tolist():
            rows.add([index, first + index], 1, 0, 1)
        upper[first:] = allowed.ravel()
        objective[first:] = score.ravel()
    else:
        objective[:_NUM_CHOICES] = -score.ravel()
        if node_score is not None:
            objective[_NUM_CHOICES:] = -node_score.ravel()
    integrality = np.ones(columns)
    integrality[_NUM_CHOICES : _NUM_CHOICES + _NUM_NODES] = 0
    found = milp(
        objective,
        integrality=integrality,
        bounds=Bounds(np.zeros(columns), upper),  # pyright: ignore[reportArgumentType]
        constraints=LinearConstraint(vstack(rows.parts), rows.low, rows.high),  # pyright: ignore[reportArgumentType]
        options={"mip_rel_gap": 0},
    )
    if found.x is None:
        return None
    whole = np.round(found.x)
    given_up = whole[_NUM_CHOICES + _NUM_NODES :] if giving_up else np.zeros(_NUM_CHOICES)
    return Choice(whole[:_NUM_CHOICES].reshape(SHAPE), given_up.reshape(SHAPE))


def _column(kind: int, edge: int, op: int) -> int:
    return (kind * NUM_EDGES + edge) * NUM_OPERATIONS + op


def _connections(kind: int, edges: Sequence[int]) -> list[int]:
    """Columns of everything but `none` on these edges."""
    none = OPERATIONS.index(NONE)
    return [_column(kind, edge, op) for edge in edges for op in range(NUM_OPERATIONS) if op != none]


def _one_on_every_edge(rows: _Rows, *, offset: int) -> None:
    for first in range(0, _NUM_CHOICES, NUM_OPERATIONS):
        rows.add(range(offset + first, offset + first + NUM_OPERATIONS), 1, 1, 1)


def _connected(rows: _Rows) -> None:
    """Every cell, and a node is reached by whatever enters it."""
    for kind in range(len(CELL_KINDS)):
        rows.add(_connections(kind, INPUT_EDGES), 1, 1, np.inf)
        for edge, (_, target) in enumerate(EDGES):
            node = _NUM_CHOICES + kind * NUM_INTERMEDIATE_NODES + target - NUM_INPUT_NODES
            connections = _connections(kind, [edge])
            rows.add([node, *connections], [1, *[-1] * len(connections)], 0, np.inf)


def _within(rows: _Rows, demand: Demand, limit: float) -> None:
    """As parts of the limit, so that the solver's tolerance is one of it."""
    values = np.concatenate([demand.most.ravel(), demand.nodes.ravel()]) / limit
    rows.add(range(_NUM_CHOICES + _NUM_NODES), values, -np.inf, 1 - demand.fixed / limit)


def _entered(rows: _Rows, num_incoming: int) -> None:
    for kind in range(len(CELL_KINDS)):
        for node in range(NUM_INPUT_NODES, NUM_INPUT_NODES + NUM_INTERMEDIATE_NODES):
            incoming = [edge for edge, (_, target) in enumerate(EDGES) if target == node]
            rows.add(_connections(kind, incoming), 1, num_incoming, num_incoming)
