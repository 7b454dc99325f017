"""Cells and networks, in Child and Parent precision.

One class serves both the shared network of a search, which holds every candidate's weights, and the
network of a genotype, in which every edge has one candidate. Layout on a CPU: channels_last.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpnas_cli.binarization.estimators import BinaryConv2d
from cpnas_cli.networks.operations import (
    FULL,
    Arithmetic,
    BatchNorm,
    EdgeShape,
    FactorizedReduction,
    Node,
    PointwiseConv,
    RealConv2d,
    SeparableConv,
    build_operation,
)
from cpnas_cli.networks.shapes import CellShape, Precision, cell_shapes, num_stem_channels, stem_kernel_size
from cpnas_cli.randomness import derived_seed
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    EDGES,
    NONE,
    NUM_INPUT_NODES,
    NUM_INTERMEDIATE_NODES,
    NUM_NODES,
    Candidates,
    CellCandidates,
    Genotype,
    candidates_of,
    genotype_of,
    live_edges,
)
from cpnas_cli.search_space import Cell as CellGenotype
from cpnas_cli.settings import Config, NetworkConfig
from cpnas_cli.storage.documents import parse_genotype


class Output(NamedTuple):
    """What a forward pass gives: class scores (B, classes) and the last cell's feature map (B, 4C, H, W)."""

    logits: Tensor
    features: Tensor


@dataclass(frozen=True)
class Arithmetics:
    """Which arithmetic each part of a network uses; what stays real in the Child is a setting."""

    edges: Arithmetic
    preprocessing: Arithmetic
    reduction: Arithmetic

    @staticmethod
    def of(network: NetworkConfig, precision: Precision) -> "Arithmetics":
        arithmetic = Arithmetic(precision, network.estimator)
        real = network.real_parts
        return Arithmetics(
            edges=arithmetic,
            preprocessing=FULL if "preprocessing" in real else arithmetic,
            reduction=FULL if "factorized_reduction" in real else arithmetic,
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
        self.shortcut = shortcut and in_channels % out_channels == 0
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
            result_BCHW = result_BCHW + group * (1 / len(groups))  # two roundings, see `operations`
        return result_BCHW


def build_stem(settings: NetworkConfig, *, num_image_channels: int) -> nn.Sequential:
    """A full-precision convolution and batch norm: (B, C, S, S) -> (B, stem channels, S / stride, S / stride)."""
    kernel_size, stem_channels = stem_kernel_size(settings), num_stem_channels(settings)
    return nn.Sequential(
        RealConv2d(
            num_image_channels, stem_channels, kernel_size, stride=settings.stem_stride, padding=kernel_size // 2
        ),
        BatchNorm(stem_channels),
    )


def build_preprocessing(shape: CellShape, *, shortcut: bool, arithmetics: Arithmetics) -> nn.ModuleList:
    """The `Preprocessing` of a cell's two inputs."""
    return nn.ModuleList(
        Preprocessing(channels, shape.num_channels, halves=halves, shortcut=shortcut, arithmetics=arithmetics)
        for channels, halves in zip(shape.in_channels, (shape.previous_reduces, False), strict=True)
    )


class Cell(nn.Module):
    """A cell with the candidate operations of its 14 edges.

    Forward: two nodes -> (B, 4C, H / stride, W / stride), the concatenated intermediate nodes. A dead
    node contributes zeros, and the edges that leave it are not computed (see `space.live_nodes`).
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
            self.edges.append(nn.ModuleDict({op: build_operation(op, edge) for op in alive if op != NONE}))

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


class Network(nn.Module):
    """Stem, cells, classifier; Child or Parent.

    Forward: images (B, C, S, S) and, where an edge has several candidates, the genotype to use.

    Args:
      settings: cells, channels, stem, what stays real.
      candidates: the operations of every edge.
      precision: "binary" for the Child, "full" for the Parent.
    """

    def __init__(
        self,
        settings: NetworkConfig,
        *,
        candidates: Candidates,
        precision: Precision,
        num_image_channels: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.settings, self.precision = settings, precision
        self.genotype = genotype_of(candidates) if candidates.num_candidates == 1 else None
        self.stem = build_stem(settings, num_image_channels=num_image_channels)
        shapes = cell_shapes(settings)
        arithmetics = Arithmetics.of(settings, precision)
        self.cells = nn.ModuleList(
            Cell(
                candidates.reduce if shape.reduces else candidates.normal,
                shape,
                shortcut=settings.shortcut,
                arithmetics=arithmetics,
            )
            for shape in shapes
        )
        self.classifier = nn.Linear(NUM_INTERMEDIATE_NODES * shapes[-1].num_channels, num_classes)
        for module in self.modules():
            if isinstance(module, BatchNorm | RealConv2d):
                module.exact_evaluation = precision == "binary"

    def forward(self, images_BCHW: Tensor, genotype: Genotype | None = None) -> Output:
        choices = self._genotype(genotype).cells()
        node = Node(self.stem(images_BCHW.contiguous(memory_format=torch.channels_last)))
        before = node
        for cell in self.cells:
            assert isinstance(cell, Cell)
            before, node = node, Node(cell((before, node), choices[cell.kind]))
        features_BCHW = node.value
        return Output(self.classifier(features_BCHW.mean(dim=(2, 3))), features_BCHW)

    def parts_of(self, genotype: Genotype | None = None) -> Iterator[nn.Module]:
        """The modules that a genotype uses: stem, classifier, preprocessing, and its live operations."""
        choices = self._genotype(genotype).cells()
        yield self.stem
        yield self.classifier
        for cell in self.cells:
            assert isinstance(cell, Cell)
            yield cell.preprocessing
            choice = choices[cell.kind]
            yield from (cell.operation(edge, choice) for edge in live_edges(choice))

    def parameters_of(self, genotype: Genotype | None = None) -> list[nn.Parameter]:
        """The parameters that a forward pass of the genotype reads, and no others."""
        return [parameter for part in self.parts_of(genotype) for parameter in part.parameters()]

    def batch_norms_of(self, genotype: Genotype | None = None) -> list[BatchNorm]:
        return [m for part in self.parts_of(genotype) for m in part.modules() if isinstance(m, BatchNorm)]

    def latent_filters(self, genotype: Genotype | None = None) -> list[Tensor]:
        """H of every binary convolution that the genotype uses."""
        return [m.weight for part in self.parts_of(genotype) for m in part.modules() if isinstance(m, BinaryConv2d)]

    def feature_shape(self, image_size: int) -> tuple[int, int, int]:
        """(4C, H, W) of the last cell's output."""
        size = image_size // self.settings.stem_stride // 4
        return self.classifier.in_features, size, size

    def _genotype(self, genotype: Genotype | None) -> Genotype:
        chosen = genotype or self.genotype
        if chosen is None:
            raise ValueError("a shared network needs the genotype of this pass")
        return chosen


def build_network(
    settings: NetworkConfig,
    *,
    precision: Precision,
    num_image_channels: int,
    num_classes: int,
    seed: int,
    genotype: Genotype | None = None,
) -> Network:
    """A freshly initialised network: of `genotype`, or, without one, the shared network of a search.

    The weights depend on (seed, precision, shared or not) only. The CPU's global random state is left as it was.
    """
    candidates = ALL_CANDIDATES if genotype is None else candidates_of(_without_dead_edges(genotype))
    purpose = f"{'shared' if genotype is None else 'genotype'} {precision} weights"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, purpose))
        network = Network(
            settings,
            candidates=candidates,
            precision=precision,
            num_image_channels=num_image_channels,
            num_classes=num_classes,
        )
    if genotype is None:
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.statistics = "none"
    return network.to(memory_format=torch.channels_last)


def build_stored(state: Mapping[str, Any], *, precision: Precision | None = None) -> Network:
    """The network that the state beside stored weights describes, freshly initialised.

    Args:
      precision: another than that of the weights: the Parent of a Child.
    """
    config = Config.model_validate(state["config"])
    return build_network(
        config.network,
        precision=precision or state["precision"],
        num_image_channels=state["num_image_channels"],
        num_classes=len(state["classes"]),
        seed=config.seed,
        genotype=parse_genotype(state["genotype"]),
    )


def _without_dead_edges(genotype: Genotype) -> Genotype:
    """The same function with `none` on every edge that leaves a dead node, so that it gets no weights."""

    def cell(ops: CellGenotype) -> CellGenotype:
        live = set(live_edges(ops))
        return tuple(op if edge in live else NONE for edge, op in enumerate(ops))

    return Genotype(normal=cell(genotype.normal), reduce=cell(genotype.reduce))


@dataclass(frozen=True)
class NetworkSize:
    """Storage that inference needs.

    Convention: 1 bit per weight of a binary convolution; 32 bits per real value; 8 per threshold. A batch
    norm is folded into 2 real values per channel (a scale and a shift), and the scale alpha of a binary
    convolution into the scale of the batch norm behind it; a batch norm between two binary
    convolutions, of which only the sign is wanted, into one threshold per channel. `num_parameters`
    counts what is trained: latent weights, batch norm weights and biases, stem, classifier.
    """

    num_parameters: int
    num_binary_weights: int
    num_real_values: int
    num_thresholds: int

    @property
    def size_bits(self) -> int:
        return self.num_binary_weights + 32 * self.num_real_values + 8 * self.num_thresholds


def network_size(network: Network) -> NetworkSize:
    num_binary = sum(m.weight.numel() for m in network.modules() if isinstance(m, BinaryConv2d))
    between = [m.between for m in network.modules() if isinstance(m, SeparableConv) and m.between is not None]
    num_thresholds = sum(norm.weight.numel() for norm in between)
    num_parameters = sum(p.numel() for p in network.parameters())
    num_real = num_parameters - num_binary - 2 * num_thresholds
    return NetworkSize(num_parameters, num_binary, num_real, num_thresholds)


def precision_parts(settings: NetworkConfig, precision: Precision) -> dict[str, list[str]]:
    """Which parts of the network are 1-bit and which are real, for people and for results."""
    always_real = ["stem", "classifier", "batch norm", "pooling", "sums of edges"]
    if settings.shortcut:
        always_real.append("shortcut around the preprocessing")
    convolutions = ["separable convolutions (depthwise, dilated and 1x1)", "preprocessing", "factorized_reduction"]
    if precision == "full":
        return {"binary": [], "real": convolutions + always_real}
    return {
        "binary": [part for part in convolutions if part not in settings.real_parts],
        "real": [part for part in convolutions if part in settings.real_parts] + always_real,
    }
