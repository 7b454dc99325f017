"""Children as a training could leave them, for tests of what is made from them: all that is folded is random."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.data.batches import Pipeline
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.deploy.packing import pack
from cpnas_cli.networks.modules.batch_norm import BatchNorm
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.search_space import EDGES, OPERATIONS, Genotype
from cpnas_cli.settings import Config, DataConfig
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork

MEAN, STD = (0.45, 0.5, 0.55), (0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Child:
    """A Child with random batch norms, and its packed model."""

    trained: TrainedNetwork

    @property
    def network(self) -> Network:
        return self.trained.network

    @property
    def model(self) -> PackedModel:
        return pack(self.trained)

    def draw_images(self, count: int, *, seed: int = 0) -> np.ndarray:
        """uint8, (count, C, S, S)."""
        size = self.trained.image_size
        shape = (count, self.trained.num_image_channels, size, size)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)

    def normalize(self, images_BCHW: np.ndarray) -> Tensor:
        return Pipeline(DataConfig(), *self.trained.normalization).normalize(torch.from_numpy(images_BCHW))

    @torch.no_grad()
    def logits(self, images_BCHW: np.ndarray) -> np.ndarray:
        """What PyTorch computes in evaluation mode."""
        return self.network(self.normalize(images_BCHW)).logits.numpy()


def make_child(
    genotype: Genotype,
    *,
    image_size: int = 8,
    num_image_channels: int = 3,
    num_classes: int = 3,
    seed: int = 0,
    **network: Any,
) -> Child:
    """3 cells of 4 channels, unless `network` says otherwise."""
    config = Config.model_validate(
        {
            "data": {"image_size": image_size},
            "network": {"num_cells": 3, "num_channels": 4, "stem_multiplier": 1, **network},
        }
    )
    built = build_network(
        config.network,
        precision="binary",
        num_image_channels=num_image_channels,
        num_classes=num_classes,
        seed=seed,
        genotype=genotype,
    )
    randomize(built, seed=seed)
    return Child(
        TrainedNetwork(
            built.eval(),
            config,
            genotype,
            {"seed": seed},
            tuple(f"class {index}" for index in range(num_classes)),
            Normalization(MEAN[:num_image_channels], STD[:num_image_channels]),
            num_image_channels,
        )
    )


@torch.no_grad()
def randomize(network: Network, *, seed: int) -> None:
    """Batch norms with any statistics; weights of both signs, some of them 0, in the latent filters too."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    def some(like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=generator) < 0.1

    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.copy_(normal(module.running_mean) / 2)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) * 2 + 0.3)
            module.weight.copy_(normal(module.weight).masked_fill(some(module.weight), 0))
            module.bias.copy_((normal(module.bias) / 2).masked_fill(some(module.bias), 0))
        elif isinstance(module, BinaryConv2d):
            module.weight.masked_fill_(some(module.weight), 0.0).masked_fill_(some(module.weight), -0.0)
            if module.alpha is not None:  # a learned scale may become anything
                module.alpha.copy_(normal(module.alpha).masked_fill(some(module.alpha), 0))
        elif isinstance(module, Ending):
            for values in module.values:
                values.add_(normal(values) / 2).masked_fill_(some(values), 0)


def everywhere(op: str) -> Genotype:
    return Genotype((op,) * len(EDGES), (op,) * len(EDGES))


def every_operation() -> Genotype:
    """Each of the 7 operations twice in a cell; in the reduction cell at stride 2 and at stride 1."""
    twice = OPERATIONS[1:] * 2
    inputs_first = sorted(range(len(EDGES)), key=lambda edge: EDGES[edge][0] > 1)
    reduce = dict(zip(inputs_first, twice, strict=True))
    return Genotype(twice, tuple(reduce[edge] for edge in range(len(EDGES))))


def said_by(model: PackedModel) -> tuple[Any, ...]:
    """All that a model is, to be compared."""
    fields = {name: value for name, value in vars(model).items() if name not in model.arrays()}
    return (fields, {name: (array.dtype, array.shape, array.tobytes()) for name, array in model.arrays().items()})
