"""The search space as plain data: operation names, edges, genotypes, candidate sets and draws.

A cell has 2 input nodes (0, 1) and 4 intermediate nodes (2..5). Every intermediate node is the sum
over all earlier nodes i of o(i,j)(N_i), so there are 2 + 3 + 4 + 5 = 14 edges; the output of a cell
is the concatenation of its intermediate nodes. All normal cells share one choice of operations, all
reduction cells another.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from cpnas_cli import registry
from cpnas_cli.errors import GenotypeError
from cpnas_cli.randomness import python_generator, shuffled

NUM_INPUT_NODES = 2
NUM_INTERMEDIATE_NODES = 4
NUM_NODES = NUM_INPUT_NODES + NUM_INTERMEDIATE_NODES

NONE = "none"
OPERATIONS = tuple(registry.OPERATIONS)
NUM_OPERATIONS = len(OPERATIONS)

# (from, to) in the order (0,2) (1,2) (0,3) (1,3) (2,3) (0,4) ... (4,5)
EDGES = tuple((source, node) for node in range(NUM_INPUT_NODES, NUM_NODES) for source in range(node))
NUM_EDGES = len(EDGES)
INPUT_EDGES = tuple(index for index, (source, _) in enumerate(EDGES) if source < NUM_INPUT_NODES)

CELL_KINDS = ("normal", "reduce")

CellGenotype = tuple[str, ...]
"""The operation of each of the 14 edges, in the order of `EDGES`."""

CellCandidates = tuple[tuple[str, ...], ...]
"""The operations still alive on each of the 14 edges, in the order of `OPERATIONS`."""


@dataclass(frozen=True)
class Genotype:
    """One operation on every edge of the normal and of the reduction cell."""

    normal: CellGenotype
    reduce: CellGenotype

    def cells(self) -> dict[str, CellGenotype]:
        return {"normal": self.normal, "reduce": self.reduce}


@dataclass(frozen=True)
class Candidates:
    """The operations that a search has not abandoned yet, for every edge of both cells."""

    normal: CellCandidates
    reduce: CellCandidates

    def cells(self) -> dict[str, CellCandidates]:
        return {"normal": self.normal, "reduce": self.reduce}

    @property
    def num_candidates(self) -> int:
        """K of Algorithm 9; the same on every edge."""
        return len(self.normal[0])


ALL_CANDIDATES = Candidates(normal=(OPERATIONS,) * NUM_EDGES, reduce=(OPERATIONS,) * NUM_EDGES)


def candidates_of(genotype: Genotype) -> Candidates:
    """The candidate sets in which every edge has one operation left."""
    return Candidates(normal=tuple((op,) for op in genotype.normal), reduce=tuple((op,) for op in genotype.reduce))


def genotype_of(candidates: Candidates) -> Genotype:
    """The genotype of candidate sets with one operation left on every edge."""
    if any(len(alive) != 1 for cell in candidates.cells().values() for alive in cell):
        raise ValueError("a genotype has exactly one operation on every edge")
    return Genotype(
        normal=tuple(alive[0] for alive in candidates.normal),
        reduce=tuple(alive[0] for alive in candidates.reduce),
    )


def live_nodes(cell: CellGenotype) -> frozenset[int]:
    """The nodes that a signal from the cell's inputs reaches.

    A node that no input reaches is dead: its value is zero, and the edges that leave it carry nothing
    whatever their operation is (ours; the sign of a zero is +1, so without this rule a binary
    convolution would turn a dead node into a constant pattern).
    """
    live = set(range(NUM_INPUT_NODES))
    for (source, node), op in zip(EDGES, cell, strict=True):
        if op != NONE and source in live:
            live.add(node)
    return frozenset(live)


def live_edges(cell: CellGenotype) -> tuple[int, ...]:
    """Indices of the edges that carry a signal: not `none`, and leaving a live node."""
    live = live_nodes(cell)
    return tuple(
        index for index, ((source, _), op) in enumerate(zip(EDGES, cell, strict=True)) if op != NONE and source in live
    )


def is_connected(cell: CellGenotype) -> bool:
    """Whether the cell's output depends on at least one of its inputs.

    True exactly if some edge that leaves an input node is not `none`. A network whose normal and
    reduction cells are both connected depends on its input: from the last cell back, each cell
    depends on one of the two before it, down to the stem.
    """
    return any(cell[index] != NONE for index in INPUT_EDGES)


def draw_pass(candidates: Candidates, *, seed: int, pass_index: int) -> list[Genotype]:
    """The K architectures of one pass: sampling without replacement, independently on every edge.

    On each edge the alive operations are put into a random order and the e-th architecture takes the
    e-th, so that within the pass every candidate of every edge is drawn exactly once (Algorithm 9).
    The order depends on (seed, K, pass) only, never on accuracies or on beta_P.
    """
    num_candidates = candidates.num_candidates
    generator = python_generator(seed, "draw", num_candidates, pass_index)
    orders = {kind: [shuffled(alive, generator) for alive in cell] for kind, cell in candidates.cells().items()}
    return [
        Genotype(
            normal=tuple(order[draw] for order in orders["normal"]),
            reduce=tuple(order[draw] for order in orders["reduce"]),
        )
        for draw in range(num_candidates)
    ]


def draw_uniform(*, seed: int, draw: int = 0, attempt: int = 0) -> Genotype:
    """A genotype drawn uniformly from the connected ones: a disconnected cell is drawn again.

    Args:
      attempt: further ones, where a draw cannot be used.
    """
    return draw_connected(python_generator(seed, "random genotype", draw, *([attempt] if attempt else [])))


def draw_connected(generator: random.Random) -> Genotype:
    """The same, with random numbers of the generator."""

    def cell() -> CellGenotype:
        while True:
            ops = tuple(OPERATIONS[int(generator.random() * NUM_OPERATIONS)] for _ in EDGES)
            if is_connected(ops):
                return ops

    return Genotype(normal=cell(), reduce=cell())


def check_cell(ops: Sequence[str], *, kind: str) -> CellGenotype:
    """The operations as a `CellGenotype`, or a `GenotypeError` that names the edge."""
    if len(ops) != NUM_EDGES:
        raise GenotypeError(f"the {kind} cell has {len(ops)} edges; expected {NUM_EDGES}")
    for edge, op in zip(EDGES, ops, strict=True):
        if op not in OPERATIONS:
            raise GenotypeError(
                f"unknown operation {op!r} on edge {edge[0]}->{edge[1]} of the {kind} cell; "
                f"choose from {', '.join(OPERATIONS)}"
            )
    if not is_connected(tuple(ops)):
        raise GenotypeError(
            f"the {kind} cell is disconnected: every edge from its input nodes 0 and 1 is none, "
            "so its output would not depend on the image"
        )
    return tuple(ops)
