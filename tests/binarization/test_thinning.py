"""Every n-th pixel, and its gradient."""

import pytest
import torch

from cpnas_cli.binarization.thinning import thinned


@pytest.mark.parametrize("wants_gradient", [True, False])
@pytest.mark.parametrize(("size", "step", "starts"), [((6, 4), 2, (0, 1)), ((5, 7), 2, (0,)), ((7, 5), 3, (2, 0))])
def test_slices_and_their_gradient(
    size: tuple[int, int], step: int, starts: tuple[int, ...], wants_gradient: bool
) -> None:
    x = torch.arange(2 * 3 * size[0] * size[1], dtype=torch.float32).view(2, 3, *size).requires_grad_(wants_gradient)
    expected = [x[:, :, start::step, start::step] for start in starts]
    results = thinned(x, step, starts=starts)
    for result, slice_ in zip(results, expected, strict=True):
        assert torch.equal(result, slice_)
        assert result.is_contiguous(memory_format=torch.channels_last)
    if wants_gradient:
        weights = [torch.randn_like(result) for result in results]
        (ours,), (theirs,) = (
            torch.autograd.grad(sum((a * b).sum() for a, b in zip(many, weights, strict=True)), x)  # pyright: ignore
            for many in (results, expected)
        )
        assert torch.equal(ours, theirs)


def test_a_start_whose_result_is_not_used() -> None:
    x = torch.ones(1, 1, 4, 4, requires_grad=True)
    even, _ = thinned(x, 2, starts=(0, 1))
    even.sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0]] * 2
