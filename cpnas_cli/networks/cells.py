"""A cell: two preprocessed inputs and the operations of its 14 edges."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.modules.identity import Identity
from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.modules.pointwise import PointwiseConv
from cpnas_cli.networks.modules.reduction import FactorizedReduction
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.networks.shapes import CellShape, has_shortcut
from cpnas_cli.search_space import (
    EDGES,
    NONE,
    NUM_INPUT_NODES,
    NUM_NODES,
    CellCandidates,
    CellGenotype,
    live_edges,
)


class Preprocessing(nn.Module):
    """Brings a cell's input to the cell's channels and size: a 1x1 convolution, or a factorized reduction.

    With `shortcut` the mean over groups of input channels (and over 2x2 pixels where the image
    shrinks) is added: real-valued, without parameters (ours, after the residuals of Bi-Real Net). It is
    left out where the channels do not divide (a reduction cell that reads the stem).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, halves: bool, shortcut: bool, arithmetics: Arithmetics
    ) -> None:
        super().__init__()
        self.halves, self.out_channels = halves, out_channels
        self.shortcut = shortcut and has_shortcut(in_channels, out_channels)
        if halves:
            self.convolution: nn.Module = FactorizedReduction(
                in_channels, out_channels, arithmetic=arithmetics.reduction
            )
        else:
            self.convolution = PointwiseConv(in_channels, out_channels, arithmetic=arithmetics.preprocessing)

    def forward(self, node: Node) -> Tensor:
        result_BCHW = self.convolution(node)
        if not self.shortcut:
            return result_BCHW
        x_BCHW = node.halved() if self.halves else node.value
        groups = x_BCHW.split(self.out_channels, dim=1)
        for group in groups:
            result_BCHW = result_BCHW + group * (1 / len(groups))  # two roundings, see `modules.batch_norm`
        return result_BCHW


def build_preprocessing(shape: CellShape, *, shortcut: bool, arithmetics: Arithmetics) -> nn.ModuleList:
    """The `Preprocessing` of a cell's two inputs."""
    return nn.ModuleList(
        Preprocessing(
            in_channels,
            shape.num_channels,
            halves=shape.halves_input(index),
            shortcut=shortcut,
            arithmetics=arithmetics,
        )
        for index, in_channels in enumerate(shape.in_channels)
    )


def build_endings(shape: CellShape, nodes: Iterable[int], arithmetics: Arithmetics) -> nn.ModuleDict:
    """The `Ending` of each of these nodes; none where the block has none."""
    built = {
        str(node): arithmetics.block.build_ending(shape.num_channels, binary=arithmetics.is_binary) for node in nodes
    }
    return nn.ModuleDict({name: ending for name, ending in built.items() if ending is not None})


class Cell(nn.Module):
    """A cell with the candidate operations of its 14 edges.

    Forward: two nodes -> a node, (B, 4C, H / stride, W / stride), the concatenated intermediate nodes. A dead
    node contributes zeros, and the edges that leave it are not computed (see `search_space.live_nodes`).
    """

    def __init__(
        self,
        candidates: CellCandidates,
        shape: CellShape,
        *,
        shortcut: bool,
        arithmetics: Arithmetics,
    ) -> None:
        super().__init__()
        self.num_channels, self.reduces = shape.num_channels, shape.reduces
        self.kind, self.averages = shape.kind, arithmetics.block.averages
        self.preprocessing = build_preprocessing(shape, shortcut=shortcut, arithmetics=arithmetics)
        self.edges = nn.ModuleList()
        for (source, _), alive in zip(EDGES, candidates, strict=True):
            edge = arithmetics.edge(shape.num_channels, stride=shape.stride(source))
            self.edges.append(nn.ModuleDict({op: operation_of(op).build(edge) for op in alive if op != NONE}))
        reached = {EDGES[edge][1] for edge, alive in enumerate(candidates) if set(alive) != {NONE}}
        self.endings = build_endings(shape, [*range(NUM_INPUT_NODES), *sorted(reached)], arithmetics)

    def droppable_edges(self, choice: CellGenotype) -> list[int]:
        """The live edges whose operation is not an identity: those that drop-path drops."""
        return [edge for edge in live_edges(choice) if not isinstance(self.operation(edge, choice), Identity)]

    def forward(self, inputs: tuple[Node, Node], choice: CellGenotype, kept_BE: Sequence[Tensor] | None = None) -> Node:
        """See above.

        Args:
          kept_BE: a column (B, 1, 1, 1) for each of the droppable edges, by which its output is multiplied.
        """
        nodes: dict[int, Node] = {
            index: self._ended(index, preprocess(node))
            for index, (preprocess, node) in enumerate(zip(self.preprocessing, inputs, strict=True))
        }
        kept = {} if kept_BE is None else dict(zip(self.droppable_edges(choice), kept_BE, strict=True))
        incoming: dict[int, list[int]] = {}
        for edge in live_edges(choice):
            incoming.setdefault(EDGES[edge][1], []).append(edge)
        for node in range(NUM_INPUT_NODES, NUM_NODES):
            if node in incoming:
                values = [self._value(nodes, edge, choice, kept.get(edge)) for edge in incoming[node]]
                nodes[node] = self._ended(node, _mean(values) if self.averages else _sum(values))
        return self._concatenate(nodes)

    def _value(self, nodes: Mapping[int, Node], edge: int, choice: CellGenotype, kept_B111: Tensor | None) -> Tensor:
        """Of an edge, after drop-path."""
        value_BCHW = self.operation(edge, choice)(nodes[EDGES[edge][0]])
        return value_BCHW if kept_B111 is None else value_BCHW * kept_B111

    def _ended(self, node: int, value_BCHW: Tensor) -> Node:
        return ended(self.endings, node, value_BCHW)

    def endings_of(self, choice: CellGenotype) -> Iterator[nn.Module]:
        """Of the inputs and of the live nodes."""
        nodes = {*range(NUM_INPUT_NODES), *(EDGES[edge][1] for edge in live_edges(choice))}
        yield from (ending for name, ending in self.endings.items() if int(name) in nodes)

    def operation(self, edge: int, choice: CellGenotype) -> nn.Module:
        operations = self.edges[edge]
        assert isinstance(operations, nn.ModuleDict)
        return operations[choice[edge]]

    def _concatenate(self, nodes: dict[int, Node]) -> Node:
        batch, channels, height, width = nodes[0].value.shape
        shape = (batch, channels, height // 2, width // 2) if self.reduces else (batch, channels, height, width)
        values = [
            nodes[node].value
            if node in nodes
            else nodes[0].value.new_zeros(shape).contiguous(memory_format=torch.channels_last)
            for node in range(NUM_INPUT_NODES, NUM_NODES)
        ]
        return Node(torch.cat(values, dim=1), concatenated_shifts(nodes, channels))


def ended(endings: nn.ModuleDict, node: int, value_BCHW: Tensor) -> Node:
    """The node of this value, after its ending where it has one."""
    name = str(node)
    return endings[name](value_BCHW) if name in endings else Node(value_BCHW)


def concatenated_shifts(nodes: Mapping[int, Node], num_channels: int) -> Tensor | None:
    """Of the intermediate nodes side by side, (4C,), zero where one is dead or has none; None if all have none."""
    shifts = [nodes[node].shift if node in nodes else None for node in range(NUM_INPUT_NODES, NUM_NODES)]
    known = [shift for shift in shifts if shift is not None]
    if not known:
        return None
    return torch.cat([known[0].new_zeros(num_channels) if shift is None else shift for shift in shifts])


def _mean(values: list[Tensor]) -> Tensor:
    """Their sum, times one over their number: two roundings, see `modules.batch_norm`."""
    return _sum(values) if len(values) == 1 else _sum(values) * (1 / len(values))


def _sum(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
