"""Every n-th pixel of an image, with a gradient that is written once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def thinned(x_BCHW: Tensor, step: int, *, starts: tuple[int, ...] = (0,)) -> tuple[Tensor, ...]:
    """For each start x[:, :, start::step, start::step], channels_last.

    By slices alone each start would have, in the backward pass, zeros for its columns, zeros for its rows and a sum.

    Args:
      starts: different ones, below the step.
    """
    if torch.is_grad_enabled() and x_BCHW.requires_grad:
        return Thinned.apply(x_BCHW, step, starts)  # pyright: ignore[reportReturnType]
    return sliced(x_BCHW, step, starts)


def sliced(x_BCHW: Tensor, step: int, starts: tuple[int, ...]) -> tuple[Tensor, ...]:
    """`thinned` by slices alone."""
    return tuple(
        x_BCHW[:, :, start::step, start::step].contiguous(memory_format=torch.channels_last) for start in starts
    )


class Thinned(torch.autograd.Function):
    """`thinned`; its gradient is one tensor of zeros in which those of all starts are put."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, step: int, starts: tuple[int, ...]) -> tuple[Tensor, ...]:
        ctx.shape = x_BCHW.shape
        ctx.pixels = step, starts
        return sliced(x_BCHW, step, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        step, starts = ctx.pixels
        like = {"dtype": grads[0].dtype, "device": grads[0].device}
        whole = torch.empty(ctx.shape, memory_format=torch.channels_last, **like).zero_()
        for start, grad in zip(starts, grads, strict=True):
            whole[:, :, start::step, start::step] = grad
        return whole, None, None
