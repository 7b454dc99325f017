"""The shared Child: trained with one optimizer throughout, and scored without further training.

Batch norm: as in the shared networks of Algorithm 9 (`strategies.cpnas.shared_networks`), a batch in training is
normalized with its own statistics, and a score has its statistics from images of the training part; here these are one
batch, the same for every score.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.networks.network import Output, build_network
from cpnas_cli.randomness import python_generator, torch_generator
from cpnas_cli.search_space import Genotype
from cpnas_cli.storage.tensors import as_vector, copy_from_vector
from cpnas_cli.strategies.base import Search
from cpnas_cli.strategies.cpnas.shared_networks import calibrated
from cpnas_cli.strategies.search_images import SearchImages
from cpnas_cli.strategies.shared_optimizer import LastingOptimizer
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

WEIGHTS = "weights"
WEIGHTS_OF_ALL = "weights_of_all"
"""The weights when all candidates were trained and none was abandoned, in which any genotype can be scored."""


@dataclass(frozen=True, kw_only=True)
class SharedStep(TrainStep):
    """One update by the mean of the gradients that the architectures of a step, one or several, have on one batch.

    Attributes:
      architecture: the forward pass of one of them.
      draw: those of the next step.
    """

    architecture: Callable[[Tensor, Genotype], Output]
    draw: Callable[[], Sequence[Genotype]]

    def __call__(self, x_BCHW: Tensor, labels: Tensor, *more: Tensor) -> Tensor:
        """Without waiting for the device. Returns what a `TrainStep` does, each the mean over the architectures."""
        assert not more
        self.optimizer.zero_grad(set_to_none=True)
        rows: list[Tensor] = []
        genotypes = self.draw()
        for genotype in genotypes:
            with self.fabric.autocast():
                output = self.architecture(x_BCHW, genotype)
            logits_BK = output.logits.float()
            terms = self.loss(x_BCHW, output._replace(logits=logits_BK), labels)
            self.fabric.backward(terms.total / len(genotypes))
            num_correct = (logits_BK.detach().argmax(dim=1) == labels).sum()
            means = [terms.total, terms.cross_entropy, terms.kernel, terms.compactness, terms.teacher, terms.auxiliary]
            rows.append(torch.stack([*means, num_correct]).detach())
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        return torch.stack(rows).mean(dim=0)


class SharedChild:
    """The weights of all candidates, their optimizer, and the images that train and score them.

    Args:
      purpose: of the random numbers of its steps, see `randomness`.
      num_epochs: of the whole search, in which the learning rate falls along one cosine.
      num_scored_images: validation images of a score; None: all.
    """

    def __init__(self, search: Search, *, purpose: str, num_epochs: int, num_scored_images: int | None) -> None:
        config, device = search.config, search.fabric.device
        self.search, self.config, self.fabric = search, config, search.fabric
        self.images = SearchImages.of(search)
        self.purpose, self.num_epochs = purpose, num_epochs
        self.network = build_network(
            config.search_network(),
            precision="binary",
            num_image_channels=search.dataset.num_image_channels,
            num_classes=search.num_classes,
            seed=config.seed,
        ).to(device)
        self.parameters = list(self.network.parameters())
        self._lasting = LastingOptimizer(self.parameters, config.search)
        self.optimizer = self._lasting.optimizer
        self.weights_of_all: Tensor | None = None
        self.calibration_BCHW = self._calibration()
        whole = self.images.validation
        self.scored = whole.part(0, num_scored_images or len(whole))

    def _calibration(self) -> Tensor:
        """`search.num_calibration_batches` batches of the training part as one, without augmentation."""
        training, search = self.images.training, self.config.search
        order = torch.randperm(len(training), generator=torch_generator(self.config.seed, "calibration images"))
        num_images = search.num_calibration_batches * search.batch_size
        chosen = training.subset(order[:num_images].to(training.labels.device))
        return self.images.pipeline.normalize(chosen.images)

    @property
    def num_steps(self) -> int:
        """Of an epoch."""
        return max(len(self.images.training) // self.config.search.batch_size, 1)

    def learning_rate(self, epoch: int, step: int) -> float:
        """A cosine over all steps of all epochs."""
        progress = (epoch + step / self.num_steps) / self.num_epochs
        return cosine(self.config.search.learning_rate, self.config.search.learning_rate_min, progress)

    def train(
        self, draw: Callable[[random.Random], Sequence[Genotype]], *, epoch: int, before_step: Callable[[int], object]
    ) -> EpochMeans:
        """One epoch on the training part.

        Args:
          draw: the architectures of a step, with a generator of its own.

        Raises:
          NonFiniteLossError: says in which step of which epoch.
        """
        search, seed = self.config.search, self.config.seed
        self.network.set_progress(epoch / self.num_epochs)
        steps = iter(range(epoch * self.num_steps, (epoch + 1) * self.num_steps))
        train_step = SharedStep(
            network=self.network,
            architecture=self.network,
            draw=lambda: draw(python_generator(seed, self.purpose, next(steps))),
            parameters=self.parameters,
            optimizer=self.optimizer,
            loss=cross_entropy,
            fabric=self.fabric,
            clip_norm=search.clip_norm,
        )
        batches = self.images.pipeline.training_batches(
            self.images.training, batch_size=search.batch_size, seed=seed, purpose="search batches", epoch=epoch
        )
        try:
            return train_epoch(
                train_step,
                batches,
                learning_rate=lambda step: self.learning_rate(epoch, step),
                before_step=lambda step: (before_step(step), None)[1],
            )
        except NonFiniteLossError as error:
            raise NonFiniteLossError(
                f"{error}, epoch {epoch + 1} of {self.num_epochs}; the checkpoint holds the state after epoch {epoch}; "
                "try a smaller --set search.learning_rate in a new run"
            ) from None

    @torch.no_grad()
    def score(self, genotype: Genotype) -> Score:
        """Of the genotype with the shared weights, without any training.

        Raises:
          NonFiniteLossError: a class score is NaN or infinite.
        """
        batches = self.images.pipeline.evaluation_batches(self.scored, batch_size=EVALUATION_BATCH_SIZE)
        with calibrated(self.network, genotype, iter([(self.calibration_BCHW, self.calibration_BCHW)])):
            return evaluate(lambda x: self.network(x, genotype), batches)

    def keep_weights_of_all(self) -> None:
        """What is trained so far is what any genotype is scored in."""
        self.weights_of_all = as_vector(self.parameters)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds: vectors, each of one value or one buffer of all parameters in their order."""
        tensors = {WEIGHTS: as_vector(self.parameters), **self._lasting.tensors()}
        if self.weights_of_all is not None:
            tensors[WEIGHTS_OF_ALL] = self.weights_of_all
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], *, path: Path) -> None:
        """The reverse of `tensors`.

        Raises:
          CheckpointError: they belong to another network.
        """
        copy_from_vector(tensors, WEIGHTS, self.parameters, path=path)
        self._lasting.restore(tensors, path=path)
        self.weights_of_all = tensors.get(WEIGHTS_OF_ALL)

    def restore_weights_of_all(self, tensors: Mapping[str, Tensor], *, path: Path) -> None:
        """The weights in which any genotype can be scored.

        Raises:
          CheckpointError: there are none, or they belong to another network.
        """
        copy_from_vector(tensors, WEIGHTS_OF_ALL, self.parameters, path=path)
