"""An exponential moving average of a network over its training steps."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cpnas_cli.errors import CheckpointError

_COUNT = "num_updates"


class MovingAverage:
    """The moving average of weights and running statistics, which is what is evaluated in the end.

    a <- d_t a + (1 - d_t) w;  d_t = min(decay, (1 + t) / (10 + t))

    where w is the network after step t = 0, 1, ...; so the average forgets where it started.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the warm-up is that of
    TensorFlow's `ExponentialMovingAverage`.

    Args:
      network: as it is before the first step.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.network, self.decay, self.num_updates = network, decay, 0
        self.averages = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def decay_of(self, step: int) -> float:
        """d_t."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self) -> None:
        """After a step, without waiting for the device."""
        weight = 1 - self.decay_of(self.num_updates)
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.averages.values()), list(self.network.state_dict().values()), weight
        )
        self.num_updates += 1

    def apply(self) -> None:
        """The network becomes its average."""
        self.network.load_state_dict(self.averages)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {**self.averages, _COUNT: torch.tensor(self.num_updates)}

    def restore(self, tensors: Mapping[str, Tensor], *, path: Path) -> None:
        """The reverse of `tensors`.

        Raises:
          CheckpointError: they are of another network, or there are none.
        """
        if tensors.keys() != {*self.averages, _COUNT}:
            raise CheckpointError(f"{path} has no moving average of this network; start a new run")
        self.num_updates = int(tensors[_COUNT])
        for name, average in self.averages.items():  # in place: a memory layout decides how kernels round
            average.copy_(tensors[name])
