"""The stages of a network's training: one, or for a Child two, first with real weights and then with 1-bit ones.

Source of the two: ReActNet, arXiv 2003.03488, and AdamBNN, arXiv 2106.11309: 1-bit activations first, then both.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from cpnas_cli.binarization.convolution import BinaryConv2d
from cpnas_cli.settings import TrainConfig
from cpnas_cli.training.epoch import cosine, falling_line


@dataclass(frozen=True)
class Stage:
    """Epochs that have an optimizer and a schedule of their own.

    Attributes:
      number: 1 or 2; None of a training in one stage.
      start: its first epoch, from 0. num_epochs: how many it has.
    """

    number: int | None
    start: int
    num_epochs: int

    @property
    def binarizes_weights(self) -> bool:
        return self.number != 1


def stages_of(train: TrainConfig, *, is_child: bool) -> tuple[Stage, ...]:
    """The stages of a network in their order; only a Child has weights that become 1-bit."""
    first = train.first_stage_epochs
    if not is_child or first == 0:
        return (Stage(None, 0, train.num_epochs),)
    return Stage(1, 0, first), Stage(2, first, train.num_epochs - first)


def learning_rate(train: TrainConfig, stage: Stage, *, epoch: int, step: int, num_steps: int) -> float:
    """Linear warm-up over the stage's first epochs, then a cosine or a line to its end, both per step.

    Args:
      epoch: of the training, from 0.
    """
    progress = epoch - stage.start + step / num_steps
    if progress < train.warmup_epochs:
        return train.learning_rate * (progress + 1 / num_steps) / train.warmup_epochs
    rest = max(stage.num_epochs - train.warmup_epochs, 1)
    fall = cosine if train.schedule == "cosine" else falling_line
    return fall(train.learning_rate, train.learning_rate_min, (progress - train.warmup_epochs) / rest)


def parameter_groups(train: TrainConfig, stage: Stage, modules: Iterable[nn.Module]) -> list[dict[str, Any]]:
    """All parameters of the modules with their weight decay: one group where it is the same for all."""
    parts = list(modules)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    if stage.number == 1:
        return [{"params": parameters, "weight_decay": train.first_stage_weight_decay}]
    latent_decay = train.latent_weight_decay
    latent = {id(m.weight) for part in parts for m in part.modules() if isinstance(m, BinaryConv2d)}
    if latent_decay is None or latent_decay == train.weight_decay or not latent:
        return [{"params": parameters, "weight_decay": train.weight_decay}]
    return [
        {"params": [p for p in parameters if id(p) not in latent], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if id(p) in latent], "weight_decay": latent_decay},
    ]


def binarize_weights(network: nn.Module, *, binarizes: bool) -> None:
    """Whether the binary convolutions of a network train with 1-bit weights; a learned scale starts with them."""
    for module in network.modules():
        if isinstance(module, BinaryConv2d):
            module.binarizes_weights = binarizes
            module.reset_scale()
