"""The network: stem, cells, classifier, in Child or Parent precision.

One class serves both the shared network of a search, which holds every candidate's weights, and the
network of a genotype, in which every edge has one candidate. Layout on a CPU: channels_last.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpnas_cli.binarization.binarization import Progress
from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.networks.arithmetics import Arithmetics
from cpnas_cli.networks.cells import Cell
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.classifier import Classifier
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.modules.node import Node
from cpnas_cli.networks.modules.real_convolution import RealConv2d
from cpnas_cli.networks.modules.stem import Stem
from cpnas_cli.networks.shapes import Precision, cell_shapes, num_stem_channels, reduction_cells
from cpnas_cli.randomness import derived_seed
from cpnas_cli.search_space import (
    ALL_CANDIDATES,
    NONE,
    NUM_INTERMEDIATE_NODES,
    Candidates,
    CellGenotype,
    Genotype,
    candidates_of,
    genotype_of,
    live_edges,
)
from cpnas_cli.settings import NetworkConfig


class Output(NamedTuple):
    """What a forward pass gives: class scores (B, classes) and the last cell's feature map (B, 4C, H, W).

    In training also the feature map of the second reduction cell, which an auxiliary head reads.
    """

    logits: Tensor
    features: Tensor
    auxiliary_features: Tensor | None = None


class Network(nn.Module):
    """Stem, cells, classifier; Child or Parent.

    Forward: images (B, C, S, S) and, where an edge has several candidates, the genotype to use; with drop-path a
    factor (B, E) for every image and droppable edge, by which the edge's output is multiplied.

    Args:
      settings: cells, channels, stem, what stays real.
      candidates: the operations of every edge.
      precision: "binary" for the Child, "full" for the Parent.

    Attributes:
      progress: how far training has come, in all signs and binary convolutions; see `set_progress`.
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
        self.settings, self.progress = settings, Progress()
        self.precision: Precision = precision
        self.genotype = genotype_of(candidates) if candidates.num_candidates == 1 else None
        self.stem = Stem(settings, num_image_channels=num_image_channels)
        shapes = cell_shapes(settings)
        arithmetics = Arithmetics.of(settings, precision, self.progress)
        self.stem_ending = arithmetics.block.build_ending(num_stem_channels(settings), binary=arithmetics.is_binary)
        self.cells = nn.ModuleList(
            Cell(
                candidates.reduce if shape.reduces else candidates.normal,
                shape,
                shortcut=settings.shortcut,
                arithmetics=arithmetics,
            )
            for shape in shapes
        )
        self.classifier = Classifier(NUM_INTERMEDIATE_NODES * shapes[-1].num_channels, num_classes)
        if precision == "binary":
            self._evaluate_exactly(settings)

    def _evaluate_exactly(self, settings: NetworkConfig) -> None:
        """In evaluation mode the Child computes with its values as they are stored, see `modules.batch_norm`."""
        for module in self.modules():
            if isinstance(module, BatchNorm | RealConv2d | Ending | Classifier | Stem):
                module.exact_evaluation = True
            if isinstance(module, BatchNorm | Ending | Classifier):
                module.real_format = settings.real_format
            if isinstance(module, RealConv2d | Classifier | Stem):
                module.weight_format = settings.weight_format

    def forward(self, images_BCHW: Tensor, genotype: Genotype | None = None, kept_BE: Tensor | None = None) -> Output:
        choices = self._genotype(genotype).cells()
        columns = None if kept_BE is None else iter(kept_BE[:, :, None, None, None].unbind(dim=1))
        stem_BCHW = self.stem(images_BCHW.contiguous(memory_format=torch.channels_last))
        node = Node(stem_BCHW) if self.stem_ending is None else self.stem_ending(stem_BCHW)
        before, auxiliary_BCHW = node, None
        for index, cell in enumerate(self.cells):
            assert isinstance(cell, Cell)
            choice = choices[cell.kind]
            kept = None if columns is None else [next(columns) for _ in cell.droppable_edges(choice)]
            before, node = node, cell((before, node), choice, kept)
            if self.training and index == reduction_cells(len(self.cells))[1]:
                auxiliary_BCHW = node.value
        features_BCHW = node.value
        return Output(self.classifier(features_BCHW.mean(dim=(2, 3))), features_BCHW, auxiliary_BCHW)

    def num_droppable_edges(self, genotype: Genotype | None = None) -> int:
        """E, over all cells."""
        choices = self._genotype(genotype).cells()
        cells = [cell for cell in self.cells if isinstance(cell, Cell)]
        return sum(len(cell.droppable_edges(choices[cell.kind])) for cell in cells)

    @property
    def num_auxiliary_channels(self) -> int:
        """Of the second reduction cell's feature map."""
        cell = self.cells[reduction_cells(len(self.cells))[1]]
        assert isinstance(cell, Cell)
        return NUM_INTERMEDIATE_NODES * cell.num_channels

    def set_progress(self, fraction: float) -> None:
        """Say before a training step what fraction of all of them is done, in [0, 1]; it shapes gradients alone."""
        self.progress.value = fraction

    def parts_of(self, genotype: Genotype | None = None) -> Iterator[nn.Module]:
        """The modules that a genotype uses: stem, classifier, preprocessing, and its live operations."""
        choices = self._genotype(genotype).cells()
        yield self.stem
        if self.stem_ending is not None:
            yield self.stem_ending
        yield self.classifier
        for cell in self.cells:
            assert isinstance(cell, Cell)
            yield cell.preprocessing
            choice = choices[cell.kind]
            yield from cell.endings_of(choice)
            yield from (cell.operation(edge, choice) for edge in live_edges(choice))

    def parameters_of(self, genotype: Genotype | None = None) -> list[nn.Parameter]:
        """The parameters that a forward pass of the genotype reads, and no others."""
        return [parameter for part in self.parts_of(genotype) for parameter in part.parameters()]

    def batch_norms_of(self, genotype: Genotype | None = None) -> list[BatchNorm]:
        return [m for part in self.parts_of(genotype) for m in part.modules() if isinstance(m, BatchNorm)]

    def latent_filters(self, genotype: Genotype | None = None) -> list[Tensor]:
        """H' of every binary convolution that the genotype uses, of which the signs are taken; differentiable."""
        return [m.latents() for part in self.parts_of(genotype) for m in part.modules() if isinstance(m, BinaryConv2d)]

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


def _without_dead_edges(genotype: Genotype) -> Genotype:
    """The same function with `none` on every edge that leaves a dead node, so that it gets no weights."""

    def cell(ops: CellGenotype) -> CellGenotype:
        live = set(live_edges(ops))
        return tuple(op if edge in live else NONE for edge, op in enumerate(ops))

    return Genotype(normal=cell(genotype.normal), reduce=cell(genotype.reduce))
