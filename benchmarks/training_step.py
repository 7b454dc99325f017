"""The training steps under measurement: those of the product, each on one batch of noise that it is given.

What a step is (forward, loss, backward, clipping, optimizer) stands in `training.epoch.TrainStep`; here it
is taken from a training, from the shared networks of a search, and from PC-DARTS's mixed network.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.workload import Shape, Workload
from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.device import open_device
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.shared_networks import SharedNetworks
from cpnas_cli.strategies.pcdarts.search import MixedSearch
from cpnas_cli.training.training import Training

NOWHERE = RunFolder(Path("unused"))  # nothing is written

Batch = tuple[Tensor, Tensor]
TimedStep = Callable[[], Tensor]
"""Called again it goes on; returns what `TrainStep` does."""


def noise_batch(shape: Shape, *, device: str = "cpu") -> Batch:
    images = torch.randn(shape.batch_size, 3, shape.image_size, shape.image_size, device=device)
    return images, torch.randint(10, (shape.batch_size,), device=device)


def search_of(workload: Workload) -> Search:
    """On the CPU, its images those of the workload."""
    return Search(NOWHERE, workload.config(), workload.dataset(), open_device("cpu"))


def step_of_training(
    name: NetworkName, genotype: Genotype, shape: Shape, batch: Batch, *, child_parent_loss: bool = False
) -> TimedStep:
    """Of a network of the genotype as it is before its first epoch; `child_parent_loss`: with every term of (4.17)."""
    workload = Workload(shape, num_images=shape.batch_size)
    config = workload.config()
    if not child_parent_loss:
        weightless = config.train.model_copy(update={"kernel_weight": 0.0, "lambda_compactness": 0.0})
        config = config.model_copy(update={"train": weightless})
    return training_step(config, name, genotype, workload.dataset(), batch)


def training_step(config: Config, name: NetworkName, genotype: Genotype, dataset: Dataset, batch: Batch) -> TimedStep:
    """Of a training with these settings and images, as it is before its first epoch."""
    training = Training(
        NOWHERE,
        config,
        genotype,
        dataset,
        fabric=open_device("cpu"),
        networks=(name,),
        provenance={},
        deadline=Deadline(),
    )
    train_step = training.new_train_step(name)
    return lambda: train_step(*batch)


def step_of_draw(shared: SharedNetworks, name: NetworkName, genotype: Genotype, batch: Batch) -> None:
    """The first of a draw: with the optimizer that the draw makes, over the parameters of the genotype."""
    network = shared.networks[name]
    shared.new_train_step(lambda x: network(x, genotype), network.parameters_of(genotype))(*batch)


def step_of_pcdarts(search: Search, batch: Batch) -> TimedStep:
    """One step of the architecture parameters and one of the weights."""
    mixed = MixedSearch(search)

    def step() -> Tensor:
        mixed.train_architecture(*batch)
        return mixed.train_step(*batch)

    return step
