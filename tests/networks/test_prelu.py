"""PReLU of a training on a CPU: the bits of `torch.prelu`, gradients too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cpnas_cli.networks.modules import ending
from cpnas_cli.networks.modules.ending import Ending
from cpnas_cli.networks.modules.prelu import prelu

SHAPES = [(1, 1, 1, 1), (3, 5, 7, 4), (2, 16, 8, 8), (32, 8, 16, 16)]


def gradients(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, slope: Tensor, grad: Tensor) -> list[Tensor]:
    leaves = x.clone().requires_grad_(), slope.clone().requires_grad_()
    result = function(*leaves)
    return [result.detach(), *torch.autograd.grad(result, leaves, grad)]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_bits_of_torch(shape: tuple[int, ...], channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=generator) for _ in range(2))
    x.view(-1)[::3] = 0.0
    x.view(-1)[::7] *= -1
    slope = torch.randn(shape[1], generator=generator)
    if channels_last:
        x, grad = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, grad))
    for ours, theirs in zip(gradients(prelu, x, slope, grad), gradients(torch.prelu, x, slope, grad), strict=True):
        assert torch.equal(ours, theirs)


def test_a_gradient_that_is_not_wanted() -> None:
    x, slope = torch.tensor([[[[-2.0]], [[3.0]]]]), torch.tensor([0.25, 0.5], requires_grad=True)
    prelu(x, slope).sum().backward()
    assert slope.grad is not None
    assert slope.grad.tolist() == [-2, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    x, slope = torch.tensor([[[[-2.0]]]], dtype=dtype, requires_grad=True), torch.tensor([0.25], dtype=dtype)
    (grad,) = torch.autograd.grad(prelu(x, slope).sum(), x)
    assert grad.tolist() == [[[[0.25]]]]
    assert grad.dtype is dtype


def test_a_training_uses_it_and_an_evaluation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is exported, compiled ahead or run bit for bit elsewhere is PyTorch's own operation."""
    calls = []

    def spy(x: Tensor, slope: Tensor) -> Tensor:
        calls.append(x.shape)
        return prelu(x, slope)

    monkeypatch.setattr(ending, "prelu", spy)
    module = Ending(2, activation="rprelu", sign_shift=True)
    x = torch.randn(1, 2, 3, 3)
    trained = module.train()(x).value
    assert len(calls) == 1
    assert torch.equal(module.eval()(x).value, trained)
    assert len(calls) == 1
