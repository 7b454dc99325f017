"""The continuous relaxation of PC-DARTS: a network in which every edge is a weighted sum of all operations.

Source: Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search",
ICLR 2020, arXiv 1907.05737, equations 2 and 3, and its public code. Here the operations are those of
the 1-bit Child.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.binarization.binarization import Progress
from cpnas_cli.errors import UsageError
from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.blocks.base import EdgeShape, block_of
from cpnas_cli.networks.cells import build_endings, build_preprocessing, concatenated_shifts, ended
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.modules.stem import Stem
from cpnas_cli.networks.network import Output
from cpnas_cli.networks.operations.base import operation_of
from cpnas_cli.networks.shapes import CellShape, cell_shapes, num_stem_channels
from cpnas_cli.randomness import derived_seed
from cpnas_cli.search_space import (
    CELL_KINDS,
    EDGES,
    NONE,
    NUM_EDGES,
    NUM_INPUT_NODES,
    NUM_INTERMEDIATE_NODES,
    NUM_NODES,
    NUM_OPERATIONS,
    OPERATIONS,
)
from cpnas_cli.settings import NetworkConfig

INITIAL_DEVIATION = 1e-3


class ArchitectureParameters(nn.Module):
    """alpha of every (edge, operation) and beta of every edge, for both kinds of cell.

    Attributes:
      alpha: {kind: (14, operations)}, beta: {kind: (14,)}, normally distributed with deviation 0.001 at first.
    """

    def __init__(self, *, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(derived_seed(seed, "architecture parameters"))

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(INITIAL_DEVIATION * torch.randn(*shape, generator=generator))

        self.alpha = nn.ParameterDict({kind: draw(NUM_EDGES, NUM_OPERATIONS) for kind in CELL_KINDS})
        self.beta = nn.ParameterDict({kind: draw(NUM_EDGES) for kind in CELL_KINDS})

    def operation_weights(self, kind: str) -> Tensor:
        """softmax of alpha over the operations of each edge: (14, operations)."""
        return self.alpha[kind].softmax(dim=-1)

    def edge_weights(self, kind: str) -> Tensor:
        """Edge normalization: softmax of beta over the edges that enter the same node: (14,)."""
        sizes = [sum(node == target for _, target in EDGES) for node in range(NUM_INPUT_NODES, NUM_NODES)]
        return torch.cat([part.softmax(dim=0) for part in self.beta[kind].split(sizes)])


class PartialNode:
    """The value of a node, split into the channels that are mixed and those that bypass the operations."""

    def __init__(self, node: Node, num_mixed: int) -> None:
        self.whole, self.value, self._num_mixed = node, node.value, num_mixed
        mixed_BCHW = node.value[:, :num_mixed].contiguous(memory_format=torch.channels_last)
        self.mixed = Node(mixed_BCHW, None if node.shift is None else node.shift[:num_mixed])
        self._halved: Tensor | None = None

    def bypass(self, stride: int) -> Tensor:
        """The other channels, at stride 2 by 2x2 max pooling."""
        rest_BCHW = self.value[:, self._num_mixed :]
        if stride == 1:
            return rest_BCHW
        if self._halved is None:
            self._halved = F.max_pool2d(rest_BCHW.contiguous(memory_format=torch.channels_last), 2)
        return self._halved


class MixedOperation(nn.Module):
    """sum_o w_o o(x) over the operations o of an edge; `none` gives zero.

    Forward: (B, C, H, W) as a `Node`, and a weight for each -> (B, C, H / stride, W / stride).
    """

    def __init__(self, edge: EdgeShape) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({op: operation_of(op).build(edge) for op in OPERATIONS if op != NONE})

    def forward(self, node: Node, weights_O: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for name, operation in self.operations.items():
            value, weight = operation(node), weights_O[OPERATIONS.index(name)]
            total = value * weight if total is None else torch.addcmul(total, value, weight)
        assert total is not None
        return total


class MixedCell(nn.Module):
    """A cell whose 14 edges are all there: node_j = sum_i b_ij shuffle([mixed_ij(x_i), bypass(x_i)]).

    where
      b_ij: the edge's share among those that enter node j (edge normalization);
      mixed_ij: the mixed operation over the first 1/k of the channels;
      bypass: the other channels as they are (2x2 max pooling at stride 2);
      shuffle: the channel shuffle with k groups.

    Shuffle and concatenation are linear and the same on every edge, so both are done once per node,
    after the sum. Forward: two nodes -> (B, 4C, H / stride, W / stride).
    """

    def __init__(self, shape: CellShape, *, partial_channels: int, shortcut: bool, arithmetics: Arithmetics) -> None:
        super().__init__()
        self.kind, self.partial_channels = shape.kind, partial_channels
        self.num_mixed = shape.num_channels // partial_channels
        self.preprocessing = build_preprocessing(shape, shortcut=shortcut, arithmetics=arithmetics)
        self.strides = [shape.stride(source) for source, _ in EDGES]
        self.edges = nn.ModuleList(
            MixedOperation(arithmetics.edge(self.num_mixed, stride=stride)) for stride in self.strides
        )
        self.endings = build_endings(shape, range(NUM_NODES), arithmetics)

    def forward(self, inputs: tuple[Node, Node], operation_weights: Tensor, edge_weights: Tensor) -> Node:
        """The weights of the cell's kind: (14, operations) and (14,)."""
        nodes = [
            PartialNode(ended(self.endings, index, preprocess(node)), self.num_mixed)
            for index, (preprocess, node) in enumerate(zip(self.preprocessing, inputs, strict=True))
        ]
        by_edge = [(row.unbind(), share) for row, share in zip(operation_weights, edge_weights, strict=True)]
        for node in range(NUM_INPUT_NODES, NUM_NODES):
            mixed: Tensor | None = None
            rest: Tensor | None = None
            for edge, (source, target) in enumerate(EDGES):
                if target != node:
                    continue
                weights, share = by_edge[edge]
                value = self.edges[edge](nodes[source].mixed, weights)
                bypass = nodes[source].bypass(self.strides[edge])
                mixed = value * share if mixed is None else torch.addcmul(mixed, value, share)
                rest = bypass * share if rest is None else torch.addcmul(rest, bypass, share)
            assert mixed is not None
            assert rest is not None
            value_BCHW = channel_shuffle(torch.cat([mixed, rest], dim=1), self.partial_channels)
            nodes.append(PartialNode(ended(self.endings, node, value_BCHW), self.num_mixed))
        value_BCHW = torch.cat([node.value for node in nodes[NUM_INPUT_NODES:]], dim=1)
        by_number = {number: node.whole for number, node in enumerate(nodes)}
        return Node(value_BCHW, concatenated_shifts(by_number, nodes[0].value.shape[1]))


def channel_shuffle(x_BCHW: Tensor, num_groups: int) -> Tensor:
    """Channel g * (C / G) + c goes to c * G + g (ShuffleNet, Zhang et al. 2018); channels_last in and out."""
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)
    return x_BHWC.unflatten(-1, (num_groups, -1)).transpose(-1, -2).flatten(-2).permute(0, 3, 1, 2)


class MixedNetwork(nn.Module):
    """The 1-bit network of a PC-DARTS search: stem, mixed cells, classifier.

    Forward: images (B, C, S, S) and the architecture parameters.

    Batch norms inside the cells have no weight and bias of their own, as in the public code: they would
    scale an operation beside its alpha.
    """

    def __init__(
        self, settings: NetworkConfig, *, partial_channels: int, num_image_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.progress = Progress()
        self.stem = Stem(settings, num_image_channels=num_image_channels)
        shapes = cell_shapes(settings)
        arithmetics = Arithmetics.of(settings, "binary", self.progress)
        self.stem_ending = arithmetics.block.build_ending(num_stem_channels(settings), binary=True)
        self.cells = nn.ModuleList(
            MixedCell(shape, partial_channels=partial_channels, shortcut=settings.shortcut, arithmetics=arithmetics)
            for shape in shapes
        )
        self.classifier = nn.Linear(NUM_INTERMEDIATE_NODES * shapes[-1].num_channels, num_classes)
        for norm in (module for module in self.cells.modules() if isinstance(module, BatchNorm)):
            norm.weight.requires_grad_(False)
            norm.bias.requires_grad_(False)

    def forward(self, images_BCHW: Tensor, architecture: ArchitectureParameters) -> Output:
        weights = {kind: (architecture.operation_weights(kind), architecture.edge_weights(kind)) for kind in CELL_KINDS}
        stem_BCHW = self.stem(images_BCHW.contiguous(memory_format=torch.channels_last))
        node = Node(stem_BCHW) if self.stem_ending is None else self.stem_ending(stem_BCHW)
        before = node
        for cell in self.cells:
            assert isinstance(cell, MixedCell)
            before, node = node, cell((before, node), *weights[cell.kind])
        return Output(self.classifier(node.value.mean(dim=(2, 3))), node.value)

    def set_progress(self, fraction: float) -> None:
        """See `Network.set_progress`."""
        self.progress.value = fraction

    def trained_parameters(self) -> list[nn.Parameter]:
        """Those that the weight step updates."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def check_partial_channels(settings: NetworkConfig, partial_channels: int) -> None:
    """Refuse channels that do not divide into the parts, or parts on which the block cannot work.

    Raises:
      UsageError: the message names both settings.
    """
    if settings.num_channels % partial_channels:
        raise UsageError(
            f"pcdarts mixes 1/{partial_channels} of the channels, so the search's num_channels must be a multiple of "
            f"{partial_channels}, got {settings.num_channels}; change search.num_channels or pcdarts.partial_channels"
        )
    block = block_of(settings)
    for shape in cell_shapes(settings):
        try:
            block.check(shape.num_channels // partial_channels)
        except ValueError as error:
            raise UsageError(f"pcdarts mixes 1/{partial_channels} of the channels: {error}") from None


def build_mixed_network(
    settings: NetworkConfig, *, partial_channels: int, num_image_channels: int, num_classes: int, seed: int
) -> MixedNetwork:
    """A freshly initialised mixed network; its weights depend on the seed only.

    Raises:
      UsageError: the channels do not divide into the parts.
    """
    check_partial_channels(settings, partial_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "mixed weights"))
        network = MixedNetwork(
            settings,
            partial_channels=partial_channels,
            num_image_channels=num_image_channels,
            num_classes=num_classes,
        )
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.statistics = "none"
    return network.to(memory_format=torch.channels_last)
