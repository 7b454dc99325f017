"""A tape of tensor operations in the place of a CUDA graph."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.training import cuda_graphs as graphs

# What a capture forbids: a value for the host, and a copy from it
_FORBIDDEN = ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::lift_fresh")


@dataclass
class Tape(TorchDispatchMode):
    """The tensor operations of one call."""

    operations: list[tuple[Any, Any, Any, list[Tensor]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._made: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func._schema.name not in _FORBIDDEN, f"{func} needs the host"
        if func._schema.is_mutable:
            for tensor in _tensors((args, kwargs)):
                if _memory(tensor) not in self._made:
                    self._before.setdefault(_memory(tensor), (tensor, tensor.detach().clone()))
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        inputs = {_memory(tensor) for tensor in _tensors((args, kwargs))}
        fresh = [tensor for tensor in outputs if _memory(tensor) not in inputs]
        self._made.update(map(_memory, fresh))
        if func._schema.is_mutable or fresh:  # all else are views of memory that is known
            self.operations.append((func, args, kwargs, fresh))
        return result

    def undo(self) -> None:
        """A capture runs nothing: what it wrote is as it was."""
        for tensor, value in self._before.values():
            tensor.detach().copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, fresh in self.operations:
            made = _tensors(func(*args, **kwargs))
            for old, new in zip(fresh, made[: len(fresh)] if fresh else (), strict=True):
                old.copy_(new)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.numel() else 0


class TapeStream:
    """A `cuda_graphs.Stream` for a CPU."""

    def __init__(self) -> None:
        self.num_replays: list[int] = []

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        yield

    def join(self) -> None:
        pass

    def record(self, steps: graphs.CapturedSteps) -> graphs.Replays:
        num_warm_up = min(graphs.WARM_UP_CALLS, steps.num_calls)
        for _ in range(num_warm_up):
            steps()
        tape = Tape()
        if steps.num_calls > num_warm_up:
            with tape:
                steps()
            tape.undo()
        self.num_replays.append(steps.num_calls - num_warm_up)
        return graphs.Replays(tape, steps, steps.num_calls - num_warm_up)


def tapes() -> dict[NetworkName, TapeStream]:
    return {"child": TapeStream(), "parent": TapeStream()}
