"""The sign and its pseudo-gradient, by two estimators.

Forward (XNOR-Net, Rastegari et al. 2016, arXiv 1603.05279): sign(x), with sign(0) = +1. What is saved for the
backward pass is the input tensor itself (no copy).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ESTIMATORS = ("clipped", "polynomial")

# The smallest float32 above 1: in float32 and narrower types |x| < this is exactly |x| <= 1, which is
# what the fused kernel (open interval) needs to pass the gradient at |x| = 1.
_JUST_ABOVE_ONE = 1.0 + 2.0**-23


def check_estimator(name: str) -> None:
    """Raises ValueError unless the name is one of `ESTIMATORS`."""
    if name not in ESTIMATORS:
        raise ValueError(f"unknown estimator {name!r}; choose from {', '.join(ESTIMATORS)}")


_MINUS_ONE = torch.tensor(-1.0)


def sign(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """+1 where x >= 0 (also at -0.0), else -1; NaN gives -1. Same shape and type as x, not differentiable.

    Args:
      out: where the result goes; may be x itself.
    """
    positive = torch.ge(x, 0, out=torch.empty_like(x) if out is None else out)
    return torch.add(_MINUS_ONE, positive, alpha=2, out=positive)


def pseudo_gradient(grad: Tensor, x: Tensor, *, estimator: str) -> Tensor:
    """The gradient with respect to x, given that with respect to sign(x); see `binarize_activation`."""
    if estimator == "clipped":
        return torch.ops.aten.hardtanh_backward(grad, x, -_JUST_ABOVE_ONE, _JUST_ABOVE_ONE)
    return x.abs().clamp_(max=1).sub_(1).mul_(-2).mul_(grad)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, estimator: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.estimator = estimator
        return sign(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return pseudo_gradient(grad, x, estimator=ctx.estimator), None


def binarize_activation(x: Tensor, *, estimator: str) -> Tensor:
    """sign(x) with a pseudo-gradient; any shape.

    Forward: +1 where x >= 0, so +1 at 0, else -1.
    Backward, by `estimator`:
      "clipped": 1 where |x| <= 1 (so 1 at |x| = 1), else 0. The clipped straight-through estimator.
      "polynomial": 2 - 2|x| where |x| <= 1 (so 2 at 0 and 0 at |x| = 1), else 0. Bi-Real Net, Liu et
        al. 2018 (arXiv 1808.00278), equation 6.
    """
    check_estimator(estimator)
    result = _Sign.apply(x, estimator)
    assert isinstance(result, Tensor)
    return result
