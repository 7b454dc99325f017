"""How a training is watched: its network on images that it is not trained on, after every epoch, and the best epoch.

The last epoch is what a training reports and saves; the best one is kept beside it. Choices are made by these images,
so that the test images are looked at once, at the end.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.distributed.collectives import add_over_processes, num_processes
from cpnas_cli.networks.network import Network
from cpnas_cli.storage.tensors import load_into, with_prefix, without_prefix
from cpnas_cli.training.epoch import EVALUATION_BATCH_SIZE, check_finite_scores

BEST = "best"


@dataclass(frozen=True)
class Validated:
    """A network on the images that validate.

    Attributes:
      epoch: from 0, the one that it has just ended.
      accuracy: the fraction classified right. loss: mean cross-entropy of the labels, unweighted and not smoothed.
    """

    epoch: int
    accuracy: float
    loss: float

    def is_better_than(self, other: "Validated") -> bool:
        """A higher accuracy, or the same with a lower loss; of equal ones the first stays the best."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@torch.no_grad()
def validate_trained(network: Network, pipeline: Pipeline, images: ImageSet, *, epoch: int, rank: int = 0) -> Validated:
    """The network with the batch norm statistics of its training, as `evaluate_trained` has it.

    Args:
      rank: of this process among those that share the images.

    Raises:
      NonFiniteLossError: a score is NaN or infinite.
    """
    first, end = (place * len(images) // num_processes() for place in (rank, rank + 1))
    share = images.part(first, end)
    device = images.labels.device
    right_and_not_finite = torch.zeros(2, dtype=torch.int64, device=device)
    loss = torch.zeros(1, device=device)
    network.eval()
    try:
        for x_BCHW, labels_B in pipeline.evaluation_batches(share, batch_size=EVALUATION_BATCH_SIZE):
            logits_BK = network(x_BCHW).logits
            num_right = (logits_BK.argmax(dim=1) == labels_B).sum()
            right_and_not_finite += torch.stack([num_right, ~logits_BK.isfinite().all()])
            loss += F.cross_entropy(logits_BK, labels_B, reduction="sum")
    finally:
        network.train()
    add_over_processes([right_and_not_finite])
    add_over_processes([loss])
    right, not_finite = right_and_not_finite.tolist()
    check_finite_scores(not_finite == 0)
    return Validated(epoch, right / len(images), loss.item() / len(images))


@dataclass
class ValidationCurve:
    """What the validation images have said of a network so far.

    Attributes:
      keeps_best: whether the weights of the best epoch are kept.
      last, best: None before the first epoch; the best only with `keeps_best`.
      tensors: the network of the best epoch, its `state_dict`.
    """

    keeps_best: bool
    last: Validated | None = None
    best: Validated | None = None
    tensors: Mapping[str, Tensor] | None = None

    def see(self, validated: Validated, network: Network) -> None:
        """After an epoch, with the network as it was validated."""
        self.last = validated
        if self.keeps_best and (self.best is None or validated.is_better_than(self.best)):
            self.best = validated
            self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def become_best(self, network: Network, *, path: Path) -> bool:
        """The network becomes that of the best epoch; False: there is none.

        Args:
          path: of the checkpoint, for the message.

        Raises:
          CheckpointError: it is of another network.
        """
        if self.tensors is None:
            return False
        load_into(network, dict(self.tensors), path=path)
        return True

    def document(self) -> dict[str, Any]:
        """{"last": {"epoch", "accuracy", "loss"}, "best": the same}, with what there is."""
        named = {"last": self.last, BEST: self.best}
        return {name: asdict(validated) for name, validated in named.items() if validated is not None}

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it beside `document`."""
        return {} if self.tensors is None else with_prefix(BEST, dict(self.tensors))

    @classmethod
    def restored(cls, document: Mapping[str, Any], tensors: Mapping[str, Tensor], *, keeps_best: bool) -> Self:
        """The reverse of `document` and `checkpoint_tensors`.

        Args:
          tensors: all of the checkpoint.
        """
        last, best = (Validated(**document[name]) if name in document else None for name in ("last", BEST))
        return cls(keeps_best, last, best, None if best is None else without_prefix(BEST, dict(tensors)))
