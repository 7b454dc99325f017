"""The sign of a batch norm, in one function that keeps nothing for the backward pass but what the batch norm keeps.

Apart, the two would keep the batch norm's output too, for the pseudo-gradient of the sign. Here it becomes
the sign in place, and is computed once more, from the input, when its gradient is asked for.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpnas_cli.binarization.binarization import Estimator
from cpnas_cli.binarization.estimators import check_estimator, pseudo_gradient, sign


class _NormalizedSign(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running: tuple[Tensor | None, Tensor | None],
        momentum: float,
        eps: float,
        estimator: tuple[str, float, float],
    ) -> Tensor:
        normalized, mean, inverse_std = torch.native_batch_norm(x, weight, bias, *running, True, momentum, eps)
        ctx.save_for_backward(x, weight, bias, mean, inverse_std)
        ctx.eps, ctx.estimator = eps, estimator
        return sign(normalized, out=normalized)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_std = ctx.saved_tensors
        scale_C = weight * inverse_std
        shift_C = (bias - mean * scale_C).to(x.dtype)
        normalized = torch.addcmul(shift_C.view(-1, 1, 1), x, scale_C.to(x.dtype).view(-1, 1, 1))
        grad = pseudo_gradient(grad, normalized, estimator=Estimator(*ctx.estimator))
        gradients = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse_std, True, ctx.eps, [True, True, True]
        )
        return *gradients, None, None, None, None


def normalized_sign(
    x_BCHW: Tensor,
    *,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    estimator: Estimator,
) -> Tensor:
    """`binarize_activation(batch_norm(x))` with the statistics of the batch, (B, C, H, W); updates the running ones.

    Forward: the same bits as the two apart. Backward: the same up to the rounding of a batch norm that is computed
    again, in float32: "clipped" differs only where it lies within that of its bound.
    """
    check_estimator(estimator.name)
    running = (running_mean, running_var)
    result = _NormalizedSign.apply(x_BCHW, weight, bias, running, momentum, eps, tuple(estimator))
    assert isinstance(result, Tensor)
    return result
