"""One training step, one epoch of them, and an evaluation: shared by searches and trainings."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.distributed.collectives import average_over_processes
from cpnas_cli.errors import NonFiniteLossError
from cpnas_cli.losses import LossTerms, only_cross_entropy
from cpnas_cli.networks.network import Output

EVALUATION_BATCH_SIZE = 256

Batches = Iterable[tuple[Tensor, ...]]
"""Images and labels of each step, see `TrainStep`; of an evaluation no more than these."""

StepLoss = Callable[[Tensor, Output, Tensor], LossTerms]
"""The loss of images (B, C, S, S), what the network made of them, and their labels (B,) or (B, K), see `losses`."""

NUM_REPORTED = 7
"""What a step reports: the loss, its five terms, and the number of images classified right."""


def falling_line(start: float, end: float, progress: float) -> float:
    """The line from `start` at progress 0 to `end` at progress 1."""
    return end + (start - end) * (1 - min(progress, 1.0))


def cosine(start: float, end: float, progress: float) -> float:
    """The cosine from `start` at progress 0 to `end` at progress 1 (Loshchilov and Hutter, 2017)."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(progress, 1.0)))


def make_optimizer(
    kind: Literal["sgd", "adam"],
    parameters: Sequence[torch.nn.Parameter] | Sequence[dict[str, Any]],
    *,
    learning_rate: float | Tensor,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam; one fused kernel over all parameters. A tensor as the rate is read at every step.

    Args:
      parameters: all of them, or groups of `torch.optim` that may have a weight decay of their own.
    """
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=True)
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


@dataclass(frozen=True)
class EpochMeans:
    """Means over the steps of one epoch; the loss terms are as they enter the sum (4.18)."""

    loss: float
    loss_cross_entropy: float
    loss_kernel: float
    loss_compactness: float
    loss_teacher: float
    loss_auxiliary: float
    accuracy_train: float


@dataclass(frozen=True)
class TrainStep:
    """One step of an optimizer on a batch: what every epoch repeats, and what is measured where a step is measured.

    Args:
      num_parts: the equal parts that a batch goes through in; their gradients are averaged (gradient accumulation).
    """

    network: Callable[..., Output]
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    loss: StepLoss
    fabric: Fabric
    clip_norm: float
    num_parts: int = 1

    def __call__(self, x_BCHW: Tensor, labels: Tensor, *more: Tensor) -> Tensor:
        """Without waiting for the device.

        Args:
          labels: classes (B,), or the share of every class (B, K), of which the largest counts as right.
          more: what the network takes beside the images, a row for each of them.

        Returns (NUM_REPORTED,): the loss, its terms, and the number of images classified right.
        """
        self.optimizer.zero_grad(set_to_none=True)
        row = torch.zeros(NUM_REPORTED, device=labels.device)
        parts = (tensor.chunk(self.num_parts) for tensor in (x_BCHW, labels, *more))
        for x_part, labels_part, *more_of_part in zip(*parts, strict=True):
            with self.fabric.autocast():
                output = self.network(x_part, *more_of_part)
            logits_BK = output.logits.float()
            terms = self.loss(x_part, output._replace(logits=logits_BK), labels_part)
            self.fabric.backward(terms.total / self.num_parts)
            classes_B = labels_part if labels_part.dim() == 1 else labels_part.argmax(dim=1)
            num_correct = (logits_BK.detach().argmax(dim=1) == classes_B).sum()
            means = torch.stack(
                [terms.total, terms.cross_entropy, terms.kernel, terms.compactness, terms.teacher, terms.auxiliary]
            ).detach()
            row += torch.cat([means / self.num_parts, num_correct[None]])
        average_over_processes([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.optimizer.step()
        return row


def train_epoch(
    train_step: TrainStep,
    batches: Batches,
    *,
    learning_rate: Callable[[int], float],
    before_step: Callable[[int], None] | None = None,
    after_step: Callable[[], None] | None = None,
) -> EpochMeans:
    """Train once over the batches. The device is waited for once, at the end.

    Args:
      learning_rate: of the step with this index in the epoch.
      before_step: called with that index before each step. after_step: called after each.

    Raises:
      NonFiniteLossError: a loss was NaN or infinite, or the last step made weights so; says in which
        step. The weights are spoilt then.
    """
    rows, num_images = [], 0
    for step, batch in enumerate(batches):
        if before_step is not None:
            before_step(step)
        for group in train_step.optimizer.param_groups:
            group["lr"] = learning_rate(step)
        rows.append(train_step(*batch))
        num_images += len(batch[0])
        if after_step is not None:
            after_step()
    table = torch.stack(rows)
    average_over_processes([table])  # of the numbers right too, like the number of images of each process
    return epoch_means(table, train_step.parameters, num_images=num_images)


def epoch_means(rows: Tensor, parameters: list[torch.nn.Parameter], *, num_images: int) -> EpochMeans:
    """The means of the rows (num_steps, NUM_REPORTED) of a `TrainStep`; waits for the device.

    Raises:
      NonFiniteLossError: see `train_epoch`.
    """
    table = rows.cpu().double()
    bad = (~table.isfinite()).any(dim=1).nonzero()
    if len(bad):
        raise NonFiniteLossError(f"the loss became NaN or infinite in step {int(bad[0]) + 1} of {len(rows)}")
    if not torch.nn.utils.get_total_norm(parameters).isfinite():
        raise NonFiniteLossError(f"weights became NaN or infinite in step {len(rows)} of {len(rows)}")
    *means, _ = table.mean(dim=0).tolist()
    return EpochMeans(*means, accuracy_train=table[:, -1].sum().item() / num_images)


def cross_entropy(_: Tensor, output: Output, labels_B: Tensor) -> LossTerms:
    """The loss of a search: the cross-entropy alone."""
    return only_cross_entropy(F.cross_entropy(output.logits, labels_B))


class Score(NamedTuple):
    """How a network does on some images.

    Attributes:
      accuracy: fraction of them classified right.
      probability: the mean of the softmax of the right class, in [0, 1]. What an accuracy says in steps of an image it
        says smoothly, so that few images tell architectures apart that many classify almost alike.
    """

    accuracy: float
    probability: float


@torch.no_grad()
def evaluate(network: Callable[[Tensor], Output], batches: Batches) -> Score:
    """Of these images. The caller has put the network into evaluation mode.

    Raises:
      NonFiniteLossError: a score is NaN or infinite, so that no class is the largest.
    """
    rows, num_images = [], 0
    for x_BCHW, labels_B in batches:
        rows.append(evaluation_step(network, x_BCHW, labels_B))
        num_images += len(labels_B)
    return evaluated(torch.stack(rows), num_images=num_images)


def evaluation_step(
    network: Callable[[Tensor], Output], x_BCHW: Tensor, labels_B: Tensor, counts_B: Tensor | None = None
) -> Tensor:
    """(3,) in float32: how many images are classified right, whether all scores are finite (1 or 0), and the sum of the
    probabilities of the right classes.

    Args:
      counts_B: False for images that do not count; without it all do.
    """
    logits_BK = network(x_BCHW).logits
    right_B = logits_BK.argmax(dim=1) == labels_B
    probability_B = logits_BK.float().softmax(dim=1).gather(1, labels_B[:, None])[:, 0]
    if counts_B is not None:
        right_B, probability_B = right_B & counts_B, probability_B * counts_B
    return torch.stack([right_B.sum(), logits_BK.isfinite().all(), probability_B.sum()]).float()


def evaluated(rows: Tensor, *, num_images: int) -> Score:
    """The score of the rows (num_batches, 3) of `evaluation_step`; waits for the device.

    Raises:
      NonFiniteLossError: see `evaluate`.
    """
    table = rows.cpu().double()
    check_finite_scores(bool(table[:, 1].all()))
    num_right, _, probability = table.sum(dim=0).tolist()
    return Score(num_right / num_images, min(probability / num_images, 1.0))


def check_finite_scores(are_finite: bool) -> None:
    """
    Raises:
      NonFiniteLossError: they are not, see `evaluate`.
    """
    if not are_finite:
        raise NonFiniteLossError("scores became NaN or infinite in an evaluation")
