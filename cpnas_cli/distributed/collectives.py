"""What the processes of one training do together: decide, fail, add and average.

Everything here is a call that every process makes in the same order. With one process nothing is exchanged.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpnas_cli.errors import CpnasError, ProcessLostError

Result = TypeVar("Result")

# How gloo says that the other side is gone; NCCL's errors have types of their own.
_SIGNS_OF_LOSS = (
    "onnection reset",
    "onnection closed",
    "onnection refused",
    "roken pipe",
    "imed out",
    "onnectFullMesh",
)


def num_processes() -> int:
    """How many exchange here; 1 where nothing was started to exchange with."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@contextlib.contextmanager
def all_present() -> Iterator[None]:
    """Around an exchange.

    Raises:
      ProcessLostError: another process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or any(sign in str(error) for sign in _SIGNS_OF_LOSS):
            reason = str(error).strip().partition("\n")[0].partition(". ")[0]
            raise ProcessLostError(f"another process of this training is gone ({reason})") from error
        raise


def by_first(fabric: Fabric, action: Callable[[], Result]) -> Result:
    """What `action` returns or raises on the first process, on every process; only the first one runs it.

    Raises:
      CpnasError: that of the first process.
    """
    if fabric.world_size == 1:
        return action()
    answer: Any = None
    if fabric.is_global_zero:
        try:
            answer = True, action()
        except CpnasError as error:
            answer = False, error
    with all_present():
        is_good, value = fabric.broadcast(answer)
    if not is_good:
        raise value
    return value


def by_all(fabric: Fabric, action: Callable[[], Result]) -> Result:
    """What `action` returns on this process, once it has succeeded on all of them.

    Raises:
      CpnasError: that of the first process on which it failed, on every process.
    """
    if fabric.world_size == 1:
        return action()
    result: Any = None
    failure: CpnasError | None = None
    try:
        result = action()
    except CpnasError as error:
        failure = error
    failures: list[Any] = [None] * fabric.world_size
    with all_present():
        dist.all_gather_object(failures, failure)
    for error in failures:
        if error is not None:
            raise error
    return result


@torch.no_grad()
def add_over_processes(tensors: Sequence[Tensor]) -> None:
    """Each tensor becomes its sum over the processes, the same bits on all of them; one exchange for all tensors."""
    if num_processes() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with all_present():
        dist.all_reduce(flat)
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view_as(tensor))


@torch.no_grad()
def average_over_processes(tensors: Sequence[Tensor]) -> None:
    """Each floating-point tensor becomes its mean over the processes; see `add_over_processes`."""
    if num_processes() == 1:
        return
    for tensor in tensors:
        tensor.div_(num_processes())
    add_over_processes(tensors)


def synchronized_batch_norm(
    x_BCHW: Tensor,
    running_mean_C: Tensor,
    running_var_C: Tensor,
    weight_C: Tensor,
    bias_C: Tensor,
    *,
    momentum: float,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` in training, with the statistics of the images of all processes.

    mean = mean_r mean_r;  var = mean_r (var_r + (mean_r - mean)^2)

    where mean_r and var_r are those of process r, each of which has as many values per channel.

    The running statistics are updated to the same values on all processes. Forward and backward have one exchange
    each. The gradient of x is that of the sum of all processes' losses; those of weight and bias are this process's
    share of it. Computed in the type of the weights, whatever that of x.

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983, for equal counts. Ours:
    `torch.nn.SyncBatchNorm` needs a GPU.
    """
    with torch.no_grad():
        x = x_BCHW.to(weight_C.dtype)
        mean_C = x.mean(dim=(0, 2, 3))
        var_C = (x - mean_C.view(-1, 1, 1)).square_().mean(dim=(0, 2, 3))  # `var_mean` takes ten times as long
        local = torch.stack([mean_C, var_C])
        gathered = [torch.empty_like(local) for _ in range(num_processes())]
        with all_present():
            dist.all_gather(gathered, local)
        means_RC, vars_RC = torch.stack(gathered).unbind(dim=1)
        mean_C = means_RC.mean(dim=0)
        var_C = (vars_RC + (means_RC - mean_C).square()).mean(dim=0)
        count = num_processes() * x_BCHW.numel() // x_BCHW.shape[1]
        running_mean_C.lerp_(mean_C, momentum)
        running_var_C.lerp_(var_C * (count / (count - 1)), momentum)
    result = _Normalized.apply(x_BCHW, weight_C, bias_C, mean_C, var_C, eps)
    assert isinstance(result, Tensor)
    return result


class _Normalized(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var are those of x on all processes."""

    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, mean_C: Tensor, var_C: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight_C, mean_C, torch.rsqrt(var_C + eps))
        return F.batch_norm(x_BCHW, mean_C, var_C, weight_C, bias_C, False, 0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, weight_C, mean_C, inverse_C = ctx.saved_tensors
        normalized_BCHW = (x_BCHW.to(weight_C.dtype) - mean_C.view(-1, 1, 1)).mul_(inverse_C.view(-1, 1, 1))
        grad = grad_BCHW.to(weight_C.dtype)
        bias_grad_C = grad.sum(dim=(0, 2, 3))
        weight_grad_C = (grad * normalized_BCHW).sum(dim=(0, 2, 3))
        count = num_processes() * x_BCHW.numel() // x_BCHW.shape[1]
        sums = torch.stack([bias_grad_C, weight_grad_C])
        add_over_processes([sums])
        from_mean_C, from_var_C = sums.div_(count).unbind()
        x_grad = grad - from_mean_C.view(-1, 1, 1) - normalized_BCHW.mul_(from_var_C.view(-1, 1, 1))
        x_grad = x_grad.mul_((weight_C * inverse_C).view(-1, 1, 1)).to(x_BCHW.dtype)
        return x_grad, weight_grad_C, bias_grad_C, None, None, None
