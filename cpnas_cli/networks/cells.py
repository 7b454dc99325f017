"""A cell: two preprocessed inputs and the operations of its 14 edges."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.networks.arithmetic import Arithmetics, EdgeShape
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
        x_BCHW = F.avg_pool2d(node.value, 2) if self.halves else node.value
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


class Cell(nn.Module):
    """A cell with the candidate operations of its 14 edges.

    Forward: two nodes -> (B, 4C, H / stride, W / stride), the concatenated intermediate nodes. A dead
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
        self.kind = shape.kind
        self.preprocessing = build_preprocessing(shape, shortcut=shortcut, arithmetics=arithmetics)
        self.edges = nn.ModuleList()
        for (source, _), alive in zip(EDGES, candidates, strict=True):
            edge = EdgeShape(
                shape.num_channels,
                stride=shape.stride(source),
                arithmetic=arithmetics.edges,
                reduction=arithmetics.reduction,
            )
            self.edges.append(nn.ModuleDict({op: operation_of(op).build(edge) for op in alive if op != NONE}))

    def forward(self, inputs: tuple[Node, Node], choice: CellGenotype) -> Tensor:
        nodes: dict[int, Node] = {
            index: Node(preprocess(node))
            for index, (preprocess, node) in enumerate(zip(self.preprocessing, inputs, strict=True))
        }
        incoming: dict[int, list[int]] = {}
        for edge in live_edges(choice):
            incoming.setdefault(EDGES[edge][1], []).append(edge)
        for node in range(NUM_INPUT_NODES, NUM_NODES):
            if node in incoming:
                values = [self.operation(edge, choice)(nodes[EDGES[edge][0]]) for edge in incoming[node]]
                nodes[node] = Node(_sum(values))
        return self._concatenate(nodes)

    def operation(self, edge: int, choice: CellGenotype) -> nn.Module:
        operations = self.edges[edge]
        assert isinstance(operations, nn.ModuleDict)
        return operations[choice[edge]]

    def _concatenate(self, nodes: dict[int, Node]) -> Tensor:
        batch, channels, height, width = nodes[0].value.shape
        shape = (batch, channels, height // 2, width // 2) if self.reduces else (batch, channels, height, width)
        values = [
            nodes[node].value
            if node in nodes
            else nodes[0].value.new_zeros(shape).contiguous(memory_format=torch.channels_last)
            for node in range(NUM_INPUT_NODES, NUM_NODES)
        ]
        return torch.cat(values, dim=1)


def _sum(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
