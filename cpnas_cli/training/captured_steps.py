"""Training and evaluation steps without arguments: the same call does every step of an epoch.

What changes from step to step (which images, their augmentation, the learning rate, where the result
goes) is read from tensors on the device at the position of a counter that is a tensor too. So a step
can be captured once as a CUDA graph and replayed, and nothing but the call itself comes from the host.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.networks.network import Output
from cpnas_cli.training.epoch import NUM_REPORTED, StepLoss, TrainStep, evaluation_step, make_optimizer


@dataclass(frozen=True)
class StepSettings:
    """How the steps of an epoch train; see `SearchConfig`."""

    optimizer: Literal["sgd", "adam"]
    momentum: float
    weight_decay: float
    clip_norm: float
    batch_size: int


class TrainingSteps:
    """The steps of one training epoch; each call does the next one, with an optimizer of its own.

    Args:
      order_N, noise_NA: see `Pipeline.draw_epoch`.
      learning_rates: of every step; their number is that of the calls.

    Attributes:
      rows: (number of steps, NUM_REPORTED), what a `TrainStep` returned; complete after the last call.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Output],
        parameters: list[torch.nn.Parameter],
        images: ImageSet,
        step_loss: StepLoss,
        *,
        pipeline: Pipeline,
        fabric: Fabric,
        settings: StepSettings,
        order_N: Tensor,
        noise_NA: Tensor,
        learning_rates: Sequence[float],
    ) -> None:
        device = images.labels.device
        self.parameters, self.images, self.pipeline = parameters, images, pipeline
        self._order_N, self._noise_NA = order_N, noise_NA
        self._batch_size = min(settings.batch_size, len(images))
        self._offsets_B = torch.arange(self._batch_size, device=device)
        self._step_1 = torch.zeros(1, dtype=torch.long, device=device)
        self._rates = torch.tensor(learning_rates, device=device)
        self._rate = self._rates[0].clone()
        self.rows = torch.zeros(len(learning_rates), NUM_REPORTED, device=device)
        self.optimizer = make_optimizer(
            settings.optimizer,
            parameters,
            learning_rate=self._rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self._train_step = TrainStep(
            network, parameters, self.optimizer, step_loss, fabric=fabric, clip_norm=settings.clip_norm
        )

    @property
    def num_calls(self) -> int:
        return len(self.rows)

    @property
    def num_images(self) -> int:
        """That all calls together train on."""
        return self.num_calls * self._batch_size

    def __call__(self) -> None:
        positions_B = self._step_1 * self._batch_size + self._offsets_B
        x_BCHW, labels_B = self.pipeline.training_batch(
            self.images, self._order_N[positions_B], self._noise_NA[positions_B]
        )
        self._rate.copy_(self._rates[self._step_1][0])
        row = self._train_step(x_BCHW, labels_B)
        self.rows.index_copy_(0, self._step_1, row[None])
        self._step_1.add_(1)


class EvaluationSteps:
    """The batches of an evaluation; each call does the next one. The last is filled up with images that do not count.

    Attributes:
      rows: (number of batches, 3), what `evaluation_step` returned; complete after the last call.
    """

    def __init__(
        self, network: Callable[[Tensor], Output], images: ImageSet, *, pipeline: Pipeline, batch_size: int
    ) -> None:
        device = images.labels.device
        self.network, self.images, self.pipeline = network, images, pipeline
        self._batch_size = min(batch_size, len(images))
        self._offsets_B = torch.arange(self._batch_size, device=device)
        self._step_1 = torch.zeros(1, dtype=torch.long, device=device)
        self.rows = torch.zeros(-(-len(images) // self._batch_size), 3, dtype=torch.float32, device=device)

    @property
    def num_calls(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def __call__(self) -> None:
        positions_B = self._step_1 * self._batch_size + self._offsets_B
        counts_B = positions_B < len(self.images)
        indices_B = positions_B.clamp(max=len(self.images) - 1)
        x_BCHW = self.pipeline.normalize(self.images.at(indices_B))
        row = evaluation_step(self.network, x_BCHW, self.images.labels[indices_B], counts_B)
        self.rows.index_copy_(0, self._step_1, row[None])
        self._step_1.add_(1)
