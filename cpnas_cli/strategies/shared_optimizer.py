"""The optimizer of a network that holds the weights of all candidates."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cpnas_cli.storage.tensors import as_vector, copy_from_vector
from cpnas_cli.training.epoch import make_optimizer

if TYPE_CHECKING:
    from cpnas_cli.settings import SearchConfig


def optimizer_of_search(parameters: list[torch.nn.Parameter], search: "SearchConfig") -> torch.optim.Optimizer:
    """That of these parameters which the settings name, afresh."""
    return make_optimizer(
        search.optimizer,
        parameters,
        learning_rate=search.learning_rate,
        momentum=search.momentum,
        weight_decay=search.weight_decay,
    )


class LastingOptimizer:
    """One that lasts for many epochs, over all parameters, of which a step has some, and goes into checkpoints.

    Attributes:
      buffers: {name: one of each parameter}. They are there from the start, and not for each parameter when it first
        has a gradient: a checkpoint then holds one vector of each, and the fused kernels want the buffers of all
        parameters or of none.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], search: "SearchConfig") -> None:
        self.optimizer = optimizer_of_search(parameters, search)
        self.buffers = _start_buffers(self.optimizer)

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """A vector of each buffer, in the order of the parameters, by the name PREFIXoptimizer.BUFFER."""
        return {f"{prefix}optimizer.{name}": as_vector(values) for name, values in self.buffers.items()}

    def restore(self, tensors: Mapping[str, Tensor], prefix: str = "", *, path: Path) -> None:
        """The reverse of `tensors`.

        Raises:
          CheckpointError: they belong to another network.
        """
        for name, values in self.buffers.items():
            copy_from_vector(tensors, f"{prefix}optimizer.{name}", values, path=path)


def _start_buffers(optimizer: torch.optim.Optimizer) -> dict[str, list[Tensor]]:
    """Give every parameter the buffers that the optimizer would make in its first step: zeros."""
    names = ("momentum_buffer",) if isinstance(optimizer, torch.optim.SGD) else ("exp_avg", "exp_avg_sq")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    buffers: dict[str, list[Tensor]] = {
        name: [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters] for name in names
    }
    if isinstance(optimizer, torch.optim.Adam):
        buffers["step"] = [torch.zeros((), dtype=torch.float32, device=p.device) for p in parameters]
    for index, parameter in enumerate(parameters):
        optimizer.state[parameter] = {name: values[index] for name, values in buffers.items()}
    return buffers
