"""What a network takes of one resource, as a sum over the edges and nodes of its cells; plain data, no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpnas_cli.networks.layer import Layer
from cpnas_cli.networks.layers import CellLayers, EdgeLayers, Surroundings, cells_of, classifier_layer, stem_layers
from cpnas_cli.search_space import (
    CELL_KINDS,
    EDGES,
    NONE,
    NUM_EDGES,
    NUM_INPUT_NODES,
    NUM_INTERMEDIATE_NODES,
    NUM_OPERATIONS,
    OPERATIONS,
    Genotype,
    live_nodes,
)
from cpnas_cli.settings import NetworkConfig

SHAPE = (len(CELL_KINDS), NUM_EDGES, NUM_OPERATIONS)
"""Of a number for every operation of every edge of both cells: in the order of `CELL_KINDS`, `EDGES`, `OPERATIONS`."""


def chosen_of(genotype: Genotype) -> np.ndarray:
    """1 where the genotype has the operation: float64, `SHAPE`."""
    chosen = np.zeros(SHAPE)
    for kind, cell in enumerate(genotype.cells().values()):
        chosen[kind, np.arange(NUM_EDGES), [OPERATIONS.index(op) for op in cell]] = 1
    return chosen


def genotype_at(chosen: np.ndarray) -> Genotype:
    """The reverse of `chosen_of`; of every edge the operation with the largest number."""
    cells = [tuple(OPERATIONS[op] for op in kind) for kind in chosen.argmax(axis=2)]
    return Genotype(**dict(zip(CELL_KINDS, cells, strict=True)))


def everywhere(op: str) -> Genotype:
    """The genotype that has this operation on every edge."""
    return Genotype(normal=(op,) * NUM_EDGES, reduce=(op,) * NUM_EDGES)


@dataclass(frozen=True)
class Demand:
    """What every genotype takes of one resource, in its base unit.

    Attributes:
      fixed: whatever the genotype is.
      edges: float64, `SHAPE`; of an operation on an edge that carries a signal, in all cells of the kind together.
      names: the same, of an operation on any edge, whether it carries a signal or not.
      nodes: float64, (2, 4); of an intermediate node that is live, in all cells of the kind together.
      margin: how much more than said here a genotype may take, as a part of it; 0 where it is counted.
    """

    fixed: float
    edges: np.ndarray
    names: np.ndarray
    nodes: np.ndarray
    margin: float = 0.0

    def of(self, genotype: Genotype) -> float:
        """What this genotype takes; dead nodes and the edges that leave them take nothing."""
        live = np.array([[node in nodes for node in range(NUM_INPUT_NODES + NUM_INTERMEDIATE_NODES)]
                         for nodes in map(live_nodes, genotype.cells().values())])  # fmt: skip
        carries = live[:, [source for source, _ in EDGES], None]
        chosen = chosen_of(genotype)
        parts = (self.edges * carries + self.names) * chosen
        return float(self.fixed + parts.sum() + (self.nodes * live[:, NUM_INPUT_NODES:]).sum())

    @property
    def most(self) -> np.ndarray:
        """Of an operation whether its edge carries a signal or not, `SHAPE`: no genotype takes more than their sum."""
        return self.edges + self.names

    def document(self) -> dict[str, Any]:
        """As a history keeps it."""
        return {
            "fixed": self.fixed,
            "margin": self.margin,
            **{
                part: {kind: values.tolist() for kind, values in zip(CELL_KINDS, getattr(self, part), strict=True)}
                for part in ("edges", "names", "nodes")
            },
        }

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> "Demand":
        """The reverse of `document`."""
        parts = {part: np.array([document[part][kind] for kind in CELL_KINDS]) for part in ("edges", "names", "nodes")}
        return Demand(fixed=document["fixed"], margin=document["margin"], **parts)


def is_within(amount: float, limit: float) -> bool:
    """Whether it is at most the limit, but for the rounding of a sum."""
    return amount <= limit * (1 + 1e-12)


def demand_of(
    settings: NetworkConfig,
    surroundings: Surroundings,
    *,
    edge: Callable[[CellLayers, EdgeLayers], float],
    node: Callable[[Layer], float] = lambda _: 0.0,
    fixed: Callable[[Layer], float] = lambda _: 0.0,
) -> Demand:
    """Counted on the layers of seven Children, each with one operation on all edges.

    Args:
      edge: of a live edge. node: of the ending of an intermediate node. fixed: of a layer of stem, preprocessing or
        classifier, and of the ending of an input node.
    """
    edges, nodes, cells = np.zeros(SHAPE), np.zeros((len(CELL_KINDS), NUM_INTERMEDIATE_NODES)), list[CellLayers]()
    for number, op in enumerate(OPERATIONS):
        if op == NONE:
            continue
        cells = cells_of(settings, everywhere(op), surroundings, precision="binary")
        for cell in cells:
            kind = CELL_KINDS.index(cell.shape.kind)
            for each in cell.edges:
                edges[kind, each.index, number] += edge(cell, each)
    common = [*stem_layers(settings, surroundings, precision="binary")]
    for cell in cells:
        kind = CELL_KINDS.index(cell.shape.kind)
        common += [layer for layers in cell.preprocessing for layer in layers]
        for index, ending in cell.endings.items():
            if index < NUM_INPUT_NODES:
                common.append(ending)
            else:
                nodes[kind, index - NUM_INPUT_NODES] += node(ending)
    common.append(classifier_layer(settings, surroundings, precision="binary"))
    return Demand(float(sum(map(fixed, common))), edges, np.zeros(SHAPE), nodes)
