"""The shared Child and Parent of a search: training and validation of one drawn architecture.

Both hold the weights of every candidate on every edge, each network its own. At beta_P = 0, where the Parent has no
part in z, the Child is alone. SGD or Adam starts
afresh at each draw, its rate falls along a cosine over all draws; only the drawn parameters are read
and updated; training minimizes the cross-entropy (all ours: Algorithm 9 does not say).

Batch norm: a shared network keeps no running statistics. In training a batch is normalized with its
own; before each validation they are estimated anew, with the weights just trained, on
`search.num_calibration_batches` batches of the training split without augmentation. So nothing of
an earlier draw can leak into an evaluation.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.networks.network import Network, build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.randomness import torch_generator
from cpnas_cli.search_space import Genotype
from cpnas_cli.storage.tensors import as_vector, copy_from_vector
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.state import num_draws_of_search
from cpnas_cli.strategies.search_images import SearchImages
from cpnas_cli.training.epoch import (
    EVALUATION_BATCH_SIZE,
    TrainStep,
    cosine,
    cross_entropy,
    evaluate,
    make_optimizer,
    train_epoch,
)

BATCHES = "search batches"  # the purpose that the order of a draw's images is derived from


class SharedNetworks:
    """The shared Child and Parent, and how one drawn architecture is trained and validated in them."""

    def __init__(self, search: Search) -> None:
        config = search.config
        self.config, self.fabric = config, search.fabric
        images = SearchImages.of(search)
        self.pipeline, self.training, self.validation = images.pipeline, images.training, images.validation
        calibration = torch.randperm(len(self.training), generator=torch_generator(config.seed, "calibration images"))
        # whole batches only: their statistics count alike, and one image alone may have none
        batch_size = min(config.search.batch_size, len(self.training))
        num_calibration = min(config.search.num_calibration_batches, len(self.training) // batch_size) * batch_size
        self.calibration: ImageSet = self.training.subset(calibration[:num_calibration].to(search.fabric.device))
        self.networks: dict[NetworkName, Network] = {
            name: build_network(
                config.search_network(),
                precision=precision,
                num_image_channels=search.dataset.num_image_channels,
                num_classes=search.num_classes,
                seed=config.seed,
            ).to(search.fabric.device)
            for name, precision in PRECISIONS.items()
            if name == "child" or config.search.beta_p != 0
        }

    @property
    def num_steps(self) -> int:
        return max(len(self.training) // self.config.search.batch_size, 1)

    def accuracies(
        self, genotype: Genotype, *, draw: int, starting: Callable[[NetworkName], object]
    ) -> dict[NetworkName, float]:
        """Train the genotype's Child and Parent for one epoch and validate them: fractions in [0, 1].

        Args:
          starting: called with the name of the network that is next.

        Raises:
          NonFiniteLossError: says in which step of which draw.
        """
        accuracies: dict[NetworkName, float] = {}
        for name in self.networks:
            starting(name)
            accuracies[name] = self.train_and_validate(name, genotype, draw=draw)
        return accuracies

    def train_draw(self, genotype: Genotype, *, draw: int, starting: Callable[[NetworkName], object]) -> None:
        """The first half of `accuracies`."""
        for name in self.networks:
            starting(name)
            with self.located(name, draw=draw):
                self.train(name, genotype, draw=draw)

    def validate_draw(self, genotype: Genotype, *, draw: int) -> dict[NetworkName, float]:
        """The second half of `accuracies`, with the weights as they are now.

        Args:
          draw: the last one that was trained.
        """
        accuracies: dict[NetworkName, float] = {}
        for name in self.networks:
            with self.located(name, draw=draw):
                accuracies[name] = self._validate(name, genotype)
        return accuracies

    def train_and_validate(self, name: NetworkName, genotype: Genotype, *, draw: int) -> float:
        """One epoch on the training split, then the accuracy on the validation split, a fraction in [0, 1].

        Raises:
          NonFiniteLossError: says in which step of which draw.
        """
        with self.located(name, draw=draw):
            self.train(name, genotype, draw=draw)
            return self._validate(name, genotype)

    @contextlib.contextmanager
    def located(self, name: NetworkName, *, draw: int) -> Iterator[None]:
        """Says of a `NonFiniteLossError` in which network and draw it happened."""
        try:
            yield
        except NonFiniteLossError as error:
            total = num_draws_of_search(self.config.search.num_passes)
            raise NonFiniteLossError(
                f"{error}, draw {draw + 1} of {total}, {name}; the checkpoint holds the state before this draw; "
                "try a smaller --set search.learning_rate in a new run"
            ) from None

    def learning_rate(self, draw: int, step: int) -> float:
        """Of a step (0, 1, ...) of a draw: a cosine over all draws."""
        search = self.config.search
        progress = (draw + step / self.num_steps) / num_draws_of_search(search.num_passes)
        return cosine(search.learning_rate, search.learning_rate_min, progress)

    def train(self, name: NetworkName, genotype: Genotype, *, draw: int) -> None:
        """One epoch of the genotype on the training split.

        Raises:
          NonFiniteLossError: says in which step.
        """
        self.networks[name].set_progress(draw / num_draws_of_search(self.config.search.num_passes))
        train_step = self.new_train_step(name, genotype)
        batches = self.pipeline.training_batches(
            self.training,
            batch_size=self.config.search.batch_size,
            seed=self.config.seed,
            purpose=BATCHES,
            epoch=draw,
        )
        train_epoch(train_step, batches, learning_rate=lambda step: self.learning_rate(draw, step))
        for parameter in train_step.parameters:
            parameter.grad = None

    def new_train_step(self, name: NetworkName, genotype: Genotype) -> TrainStep:
        """Of the genotype's own parameters, with an optimizer that starts afresh."""
        search, network = self.config.search, self.networks[name]
        parameters = network.parameters_of(genotype)
        optimizer = make_optimizer(
            search.optimizer,
            parameters,
            learning_rate=search.learning_rate,
            momentum=search.momentum,
            weight_decay=search.weight_decay,
        )
        return TrainStep(
            lambda x: network(x, genotype),
            parameters,
            optimizer,
            cross_entropy,
            fabric=self.fabric,
            clip_norm=search.clip_norm,
        )

    def _validate(self, name: NetworkName, genotype: Genotype) -> float:
        network = self.networks[name]
        batches = self.pipeline.evaluation_batches(self.validation, batch_size=EVALUATION_BATCH_SIZE)
        with calibrated(network, genotype, self.calibration_batches()):
            return evaluate(lambda x: network(x, genotype), batches)

    def calibration_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.pipeline.evaluation_batches(self.calibration, batch_size=self.config.search.batch_size)

    def tensors(self) -> dict[str, Tensor]:
        """The weights of each network as one vector, in the order of its parameters.

        Weights only: the batch norm statistics of the last validation are of no further use.
        """
        return {name: as_vector(list(network.parameters())) for name, network in self.networks.items()}

    def restore(self, tensors: Mapping[str, Tensor], *, path: Path) -> None:
        """The reverse of `tensors`; of a search of another beta_P that had a Parent it is left out, if none is needed.

        Raises:
          CheckpointError: they belong to other networks.
        """
        for name, network in self.networks.items():
            copy_from_vector(tensors, name, list(network.parameters()), path=path, called=f"weights of the {name}")


@contextlib.contextmanager
def calibrated(network: Network, genotype: Genotype, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within the block the genotype is in evaluation mode, with batch norm statistics from the batches alone.

    They are the mean over the batches, whatever was kept before. Only the genotype's own modules are touched:
    to walk the shared network, with all candidates, costs more than the evaluation of a small one.
    """
    norms = network.batch_norms_of(genotype)
    try:
        for norm in norms:
            norm.start_collecting()
        with torch.no_grad():
            for x_BCHW, _ in batches:
                network(x_BCHW, genotype)
        for norm in norms:
            norm.eval()
        yield
    finally:
        for norm in norms:
            norm.train()
            norm.statistics = "none"
