"""PReLU (He et al. 2015, arXiv 1502.01852) for training on a CPU, where PyTorch's own gradient is slow."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def prelu(x_BCHW: Tensor, slope_C: Tensor) -> Tensor:
    """x where x > 0, else slope * x: `torch.prelu`, with the same bits in both gradients of finite numbers.

    PyTorch's gradient goes through its numbers one by one: four passes over memory with vectors take a quarter to a
    third of its time. Elsewhere than in float32 on a CPU `torch.prelu` is called as it is.
    """
    is_float32 = x_BCHW.dtype == slope_C.dtype == torch.float32
    if x_BCHW.device.type != "cpu" or not is_float32 or torch.is_autocast_enabled("cpu"):
        return torch.prelu(x_BCHW, slope_C)
    result = _Prelu.apply(x_BCHW, slope_C)
    assert isinstance(result, Tensor)
    return result


class _Prelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, slope_C: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCHW, slope_C)
        return torch.prelu(x_BCHW, slope_C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x_BCHW, slope_C = ctx.saved_tensors
        # not by torch.where, whose masks of bytes are what is slow
        positive = torch.ops.aten.threshold_backward(grad, x_BCHW, 0.0)
        negative = grad - positive
        grad_x = positive.addcmul_(negative, slope_C.view(-1, 1, 1))
        return grad_x, negative.mul_(x_BCHW).sum((0, 2, 3))
