"""The sign and its pseudo-gradient, by three estimators.

Forward (XNOR-Net, Rastegari et al. 2016, arXiv 1603.05279): sign(x), with sign(0) = +1. What is saved for the
backward pass is the input tensor itself (no copy).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cpnas_cli.binarization.binarization import CLIPPED, ESTIMATORS, POLYNOMIAL, Estimator

SHARPNESS_START, SHARPNESS_END = 1e-3, 10.0  # t of "error_decay", as published


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


def clipped_gradient(grad: Tensor, x: Tensor, *, clip_bound: float) -> Tensor:
    """grad where |x| <= B, also at |x| = B, else 0; B as a float32. In one fused kernel, of an open interval."""
    above = _just_above(clip_bound)
    return torch.ops.aten.hardtanh_backward(grad, x, -above, above)


def _just_above(bound: float) -> float:
    """What rounds to the smallest float32 above the bound: in float32 and narrower |x| < this is |x| <= bound.

    In arithmetic that torch.compile can follow: Dekker's splitting rounds to 24 bits; 5/8 to 5/4 of the last of them
    is then one more.
    """
    split = bound * (2.0**29 + 1)
    rounded = split - (split - bound)
    return rounded * (1 + 1.25 * 2.0**-24)


def sharpness(progress: float) -> float:
    """t of "error_decay": from 0.001 to 10 on a logarithmic scale, for a progress in [0, 1]."""
    return SHARPNESS_START * (SHARPNESS_END / SHARPNESS_START) ** progress


def pseudo_gradient(grad: Tensor, x: Tensor, *, estimator: Estimator) -> Tensor:
    """The gradient with respect to x, given that with respect to sign(x); see `binarize_activation`."""
    bound = estimator.clip_bound
    if estimator.name == CLIPPED:
        return clipped_gradient(grad, x, clip_bound=bound)
    if estimator.name == POLYNOMIAL:
        return x.abs().clamp_(max=bound).sub_(bound).mul_(-2 / bound**2).mul_(grad)
    t = sharpness(estimator.progress)
    height = max(1 / t, 1.0) * t
    return x.mul(t).tanh_().square_().sub_(1).mul_(-height).mul_(grad)


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, clip_bound: float, progress: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.estimator = name, clip_bound, progress
        return sign(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        return pseudo_gradient(grad, x, estimator=Estimator(*ctx.estimator)), None, None, None


def binarize_activation(x: Tensor, *, estimator: Estimator) -> Tensor:
    """sign(x) with a pseudo-gradient; any shape.

    Forward: +1 where x >= 0, so +1 at 0, else -1.
    Backward, by the estimator's name, B its clip bound:
      "clipped": 1 where |x| <= B (so 1 at 0 and at |x| = B), else 0. The clipped straight-through estimator; B is 1
        as published first, 3 in PokeBNN (Zhang et al. 2021, arXiv 2112.00133), 1.5 in BNext.
      "polynomial": (2 / B) (1 - |x| / B) where |x| <= B (so 2 / B at 0 and 0 at |x| = B), else 0. With B = 1,
        2 - 2|x|: Bi-Real Net, Liu et al. 2018 (arXiv 1808.00278), equation 6. For another B (ours) its height goes
        down as its width goes up: the area under it stays 2, the step of the sign.
      "error_decay": k t (1 - tanh^2(t x)), so max(1, t) at 0, and at |x| = 1 nearly 1 at first, k t (1 - tanh^2 t)
        later; t goes from 0.001 to 10 on a logarithmic scale as the training goes on, k = max(1 / t, 1). No bound.
        IR-Net, Qin et al. 2020 (arXiv 1909.10788), equations 9 and 10.
    """
    check_estimator(estimator.name)
    result = _Sign.apply(x, *estimator)
    assert isinstance(result, Tensor)
    return result
