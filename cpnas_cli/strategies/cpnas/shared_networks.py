"""The shared Child and Parent of a search: training and validation of one drawn architecture.

Both hold the weights of every candidate on every edge, each network its own. At beta_P = 0, where the Parent has no
part in z, the Child is alone. SGD or Adam starts
afresh at each draw, its rate falls along a cosine over all draws; only the drawn parameters are read
and updated; training minimizes the cross-entropy (all ours: Algorithm 9 does not say). Throughout the warm-up it is one
optimizer: its means over past gradients are worth more than those of an epoch, of which an operation has an eighth.

Batch norm: a shared network keeps no running statistics. In training a batch is normalized with its
own; before each validation they are estimated anew, with the weights just trained, on
`search.num_calibration_batches` batches of the training split without augmentation. So nothing of
an earlier draw can leak into an evaluation.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.networks.network import Network, Output, build_network
from cpnas_cli.networks.shapes import PRECISIONS, NetworkName
from cpnas_cli.randomness import torch_generator
from cpnas_cli.search_space import Genotype
from cpnas_cli.storage.tensors import as_vector, copy_from_vector
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.state import num_draws_of_search, num_epochs_of_search
from cpnas_cli.strategies.search_images import SearchImages
from cpnas_cli.strategies.shared_optimizer import LastingOptimizer, optimizer_of_search
from cpnas_cli.training.epoch import (
    EVALUATION_BATCH_SIZE,
    EpochMeans,
    Score,
    TrainStep,
    cosine,
    cross_entropy,
    evaluate,
    train_epoch,
)

BATCHES = "search batches"  # the purpose that the order of a draw's images is derived from
WARMUP_BATCHES = "warm-up batches"


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
        self._warming: dict[NetworkName, LastingOptimizer] = {}  # within the warm-up

    @property
    def num_steps(self) -> int:
        return max(len(self.training) // self.config.search.batch_size, 1)

    def scores(
        self, genotype: Genotype, *, draw: int, starting: Callable[[NetworkName], object]
    ) -> dict[NetworkName, Score]:
        """Train the genotype's Child and Parent for one epoch and validate them.

        Args:
          starting: called with the name of the network that is next.

        Raises:
          NonFiniteLossError: says in which step of which draw.
        """
        scores: dict[NetworkName, Score] = {}
        for name in self.networks:
            starting(name)
            scores[name] = self.train_and_validate(name, genotype, draw=draw)
        return scores

    def train_draw(self, genotype: Genotype, *, draw: int, starting: Callable[[NetworkName], object]) -> None:
        """The first half of `scores`."""
        for name in self.networks:
            starting(name)
            with self.located(name, draw=draw):
                self.train(name, genotype, draw=draw)

    def validate_draw(self, genotype: Genotype, *, draw: int) -> dict[NetworkName, Score]:
        """The second half of `scores`, with the weights as they are now.

        Args:
          draw: the last one that was trained.
        """
        scores: dict[NetworkName, Score] = {}
        for name in self.networks:
            with self.located(name, draw=draw):
                scores[name] = self._validate(name, genotype)
        return scores

    def train_and_validate(self, name: NetworkName, genotype: Genotype, *, draw: int) -> Score:
        """One epoch on the training split, then the score on the validation split.

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
            total = num_draws_of_search(self.config.search)
            raise NonFiniteLossError(
                f"{error}, draw {draw + 1} of {total}, {name}; the checkpoint holds the state before this draw; "
                "try a smaller --set search.learning_rate in a new run"
            ) from None

    def learning_rate(self, draw: int, step: int) -> float:
        """Of a step (0, 1, ...) of a draw: a cosine over the warm-up, whose epochs are draws below 0, and all draws."""
        search = self.config.search
        progress = (search.warmup_epochs + draw + step / self.num_steps) / num_epochs_of_search(search)
        return cosine(search.learning_rate, search.learning_rate_min, progress)

    def train(self, name: NetworkName, genotype: Genotype, *, draw: int) -> None:
        """One epoch of the genotype on the training split.

        Raises:
          NonFiniteLossError: says in which step.
        """
        network = self.networks[name]
        self._train_epoch(name, lambda x: network(x, genotype), network.parameters_of(genotype), draw=draw)

    def warm_up(self, name: NetworkName, genotypes: Sequence[Genotype], *, epoch: int) -> EpochMeans:
        """One epoch, each step with the next of these architectures; nothing of it is validated.

        Args:
          genotypes: as many as an epoch has steps. epoch: of the warm-up, from 0.

        Raises:
          NonFiniteLossError: says in which step of which epoch.
        """
        network, steps, total = self.networks[name], iter(genotypes), self.config.search.warmup_epochs
        parameters = list(network.parameters())
        if epoch == 0:
            self._warming[name] = LastingOptimizer(parameters, self.config.search)
        optimizer = self._warming[name].optimizer
        try:
            return self._train_epoch(
                name, lambda x: network(x, next(steps)), parameters, draw=epoch - total, optimizer=optimizer
            )
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"{error}, epoch {epoch + 1} of {total} of the warm-up, {name}; the checkpoint holds the state before "
                "this epoch; try a smaller --set search.learning_rate in a new run"
            ) from None
        finally:
            if epoch + 1 == total:
                del self._warming[name]

    def _train_epoch(
        self,
        name: NetworkName,
        forward: Callable[[Tensor], Output],
        parameters: list[torch.nn.Parameter],
        *,
        draw: int,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> EpochMeans:
        search = self.config.search
        self.networks[name].set_progress((search.warmup_epochs + draw) / num_epochs_of_search(search))
        train_step = self.new_train_step(forward, parameters, optimizer)
        batches = self.pipeline.training_batches(
            self.training,
            batch_size=search.batch_size,
            seed=self.config.seed,
            purpose=BATCHES if draw >= 0 else WARMUP_BATCHES,
            epoch=draw if draw >= 0 else draw + search.warmup_epochs,
        )
        means = train_epoch(train_step, batches, learning_rate=lambda step: self.learning_rate(draw, step))
        for parameter in parameters:
            parameter.grad = None
        return means

    def new_train_step(
        self,
        forward: Callable[[Tensor], Output],
        parameters: list[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer | None = None,
    ) -> TrainStep:
        """Of these parameters alone; without an optimizer with one that starts afresh."""
        search = self.config.search
        return TrainStep(
            forward,
            parameters,
            optimizer or optimizer_of_search(parameters, search),
            cross_entropy,
            fabric=self.fabric,
            clip_norm=search.clip_norm,
        )

    def _validate(self, name: NetworkName, genotype: Genotype) -> Score:
        network = self.networks[name]
        batches = self.pipeline.evaluation_batches(self.validation, batch_size=EVALUATION_BATCH_SIZE)
        with calibrated(network, genotype, self.calibration_batches()):
            return evaluate(lambda x: network(x, genotype), batches)

    def calibration_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.pipeline.evaluation_batches(self.calibration, batch_size=self.config.search.batch_size)

    def tensors(self) -> dict[str, Tensor]:
        """The weights of each network as one vector, in the order of its parameters.

        Within the warm-up the buffers of its optimizer, likewise. The batch norm statistics of the last validation are
        of no further use, nor is the optimizer of a draw.
        """
        tensors = {str(name): as_vector(list(network.parameters())) for name, network in self.networks.items()}
        for name, optimizer in self._warming.items():
            tensors |= optimizer.tensors(f"{name}.")
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], *, path: Path, num_warmed_up: int) -> None:
        """The reverse of `tensors`; of a search of another beta_P that had a Parent it is left out, if none is needed.

        Args:
          num_warmed_up: epochs of the warm-up done.

        Raises:
          CheckpointError: they belong to other networks.
        """
        for name, network in self.networks.items():
            parameters = list(network.parameters())
            copy_from_vector(tensors, name, parameters, path=path, called=f"weights of the {name}")
            if 0 < num_warmed_up < self.config.search.warmup_epochs:
                self._warming[name] = LastingOptimizer(parameters, self.config.search)
                self._warming[name].restore(tensors, f"{name}.", path=path)


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
