"""The training of one network within a training: all that a checkpoint of it holds."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.losses import ClassMeans
from cpnas_cli.networks.network import Network, Output
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.journal import Saved
from cpnas_cli.settings import TrainConfig
from cpnas_cli.storage.tensors import load_into, load_optimizer, optimizer_tensors, with_prefix, without_prefix
from cpnas_cli.training.auxiliary_head import AuxiliaryHead
from cpnas_cli.training.epoch import make_optimizer
from cpnas_cli.training.moving_average import MovingAverage
from cpnas_cli.training.stages import Stage, binarize_weights, parameter_groups, stages_of
from cpnas_cli.training.teacher import Teacher
from cpnas_cli.training.validation import ValidationCurve, validate_trained


@dataclass
class NetworkTraining:
    """The training of one network, in one stage or two.

    Attributes:
      forward: the network in training, compiled or as it is.
      class_means, auxiliary_head, moving_average, teacher: None without them. The teacher is no part of a checkpoint.
      validation: None without images that validate.
      class_weights: (K,), None where all count the same; they follow from the images and are no part of a checkpoint.
      begun_with: what the result says of the weights that it began with; None: its own draw.
      stage: that of the last epoch; before the first one that of the first.
      compiled: all epochs so far.
      shortened_to: epochs, where there are fewer than the settings say; None: as many as they say.
    """

    name: NetworkName
    train: TrainConfig
    network: Network
    forward: Callable[..., Output]
    class_means: ClassMeans | None = None
    auxiliary_head: AuxiliaryHead | None = None
    teacher: Teacher | None = None
    validation: ValidationCurve | None = None
    class_weights: Tensor | None = None
    begun_with: dict[str, Any] | None = None
    epoch: int = 0
    seconds: float = 0.0
    compiled: bool = False
    shortened_to: int | None = None

    def __post_init__(self) -> None:
        self.stages = stages_of(self.train, is_child=self.name == "child")
        self.enter(self.stages[0])

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """All that are trained."""
        return [parameter for module in self._modules() for parameter in module.parameters()]

    def forward_part(self, x_BCHW: Tensor, *kept_BE: Tensor) -> Output:
        """The network in training on part of a batch, with drop-path if anything is said about it."""
        return self.forward(x_BCHW, None, *kept_BE) if kept_BE else self.forward(x_BCHW)

    def begin_with(self, load: Callable[[Network], None], *, record: dict[str, Any]) -> None:
        """Before the first epoch: other weights than its own draw, learned scales among them.

        Args:
          record: what the result says of them.
        """
        load(self.network)
        self.begun_with = record
        if self.moving_average is not None:  # which starts where the network does
            self.moving_average = MovingAverage(self.network, decay=self.train.ema_decay)

    def shorten(self, num_epochs: int) -> None:
        """Before the first epoch, or before what was saved is restored: the schedule ends after so many epochs."""
        self.shortened_to = num_epochs
        self.train = self.train.model_copy(update={"num_epochs": num_epochs})
        self.stages = stages_of(self.train, is_child=self.name == "child")
        self.enter(self.stages[0])

    def enter(self, stage: Stage) -> None:
        """The network goes on as it is, with an optimizer and a moving average that start afresh."""
        self.stage = stage
        binarize_weights(self.network, binarizes=stage.binarizes_weights)
        self.optimizer = make_optimizer(
            self.train.optimizer,
            parameter_groups(self.train, stage, self._modules()),
            learning_rate=self.train.learning_rate,
            momentum=self.train.momentum,
            weight_decay=self.train.weight_decay,
        )
        self.moving_average = None
        if self.train.ema_decay > 0:
            self.moving_average = MovingAverage(self.network, decay=self.train.ema_decay)

    def next_stage(self) -> Stage | None:
        """The stage that begins with the epoch that comes next; None within one."""
        return next((stage for stage in self.stages if stage.start == self.epoch and stage != self.stage), None)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        parts = with_prefix("network", self.network.state_dict())
        parts |= with_prefix("optimizer", optimizer_tensors(self.optimizer))
        if self.class_means is not None:
            parts |= with_prefix("class_means", self.class_means.state_dict())
        if self.auxiliary_head is not None:
            parts |= with_prefix("auxiliary_head", self.auxiliary_head.state_dict())
        if self.moving_average is not None:
            parts |= with_prefix("moving_average", self.moving_average.tensors())
        if self.validation is not None:
            parts |= self.validation.checkpoint_tensors()
        return parts

    def state(self) -> dict[str, Any]:
        """What a checkpoint says beside the tensors."""
        state = {"network": self.name, "epoch": self.epoch, "seconds": self.seconds, "compiled": self.compiled}
        if self.validation is not None:
            state["validation"] = self.validation.document()
        if self.begun_with is not None:
            state["begun_with"] = self.begun_with
        if self.shortened_to is not None:
            state["num_epochs"] = self.shortened_to
        return state

    def restore(self, saved: Saved, *, path: Path) -> None:
        """Go on from what was committed.

        Args:
          path: of the checkpoint, for the message.

        Raises:
          CheckpointError: it is of another training.
        """
        self.epoch, self.seconds = saved.state["epoch"], saved.state["seconds"]
        self.compiled = saved.state.get("compiled", False)
        self.begun_with = saved.state.get("begun_with")
        if "num_epochs" in saved.state:
            self.shorten(saved.state["num_epochs"])
        # a checkpoint between two stages is the end of the first
        self.enter([stage for stage in self.stages if stage.start < self.epoch][-1])
        load_into(self.network, without_prefix("network", saved.tensors), path=path)
        load_optimizer(self.optimizer, without_prefix("optimizer", saved.tensors))
        if self.class_means is not None:
            load_into(self.class_means, without_prefix("class_means", saved.tensors), path=path)
        if self.auxiliary_head is not None:
            load_into(self.auxiliary_head, without_prefix("auxiliary_head", saved.tensors), path=path)
        if self.moving_average is not None:
            self.moving_average.restore(without_prefix("moving_average", saved.tensors), path=path)
        if self.validation is not None:
            self.validation = ValidationCurve.restored(
                saved.state.get("validation", {}), saved.tensors, keeps_best=self.validation.keeps_best
            )

    def validate(self, pipeline: Pipeline, images: ImageSet, *, rank: int) -> dict[str, float]:
        """After an epoch, before it is counted: what the history says of the images that validate.

        Raises:
          NonFiniteLossError: a score is NaN or infinite.
        """
        assert self.validation is not None
        with self.as_evaluated() as network:
            validated = validate_trained(network, pipeline, images, epoch=self.epoch, rank=rank)
            self.validation.see(validated, network)
        return {"validation_accuracy": validated.accuracy, "validation_loss": validated.loss}

    @contextlib.contextmanager
    def as_evaluated(self) -> Iterator[Network]:
        """Within the block the network is what is evaluated in the end: with a moving average that."""
        if self.moving_average is None:
            yield self.network
            return
        own = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.moving_average.apply()
        try:
            yield self.network
        finally:
            self.network.load_state_dict(own)

    def _modules(self) -> list[torch.nn.Module]:
        return [self.network] if self.auxiliary_head is None else [self.network, self.auxiliary_head]
