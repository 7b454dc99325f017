"""Mean and deviation of the images: against numpy in float64, and in bounded memory."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cpnas_cli.data import dataset as module
from cpnas_cli.data.dataset import ImageSet, channel_statistics, load_dataset
from cpnas_cli.settings import DataConfig


def random_images(*shape: int, low: int = 0, high: int = 256) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(low, high, shape, dtype=np.uint8))


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (24, 3, 16, 16), (700, 3, 32, 32), (3, 3, 1024, 1024), (5, 1, 7, 9)])
@pytest.mark.parametrize(("low", "high"), [(0, 256), (100, 140), (255, 256)])
@pytest.mark.parametrize("piece", [None, 100])
def test_they_are_those_of_numpy_in_float64(
    shape: tuple[int, ...], low: int, high: int, piece: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if piece is not None:
        if np.prod(shape) > 2**16:
            pytest.skip("a great many pieces")
        monkeypatch.setattr(module, "_PIECE", piece)
    images = random_images(*shape, low=low, high=high)
    mean, std = channel_statistics(ImageSet(images, torch.zeros(len(images))))
    pixels = images.numpy().astype(np.float64).transpose(1, 0, 2, 3).reshape(shape[1], -1) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=1, ddof=1), rtol=1e-9, atol=1e-12)


def test_a_choice_has_the_statistics_and_the_hash_of_its_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at in pieces of some images, and all at once."""
    images, labels = random_images(50, 3, 5, 4), torch.arange(50)
    chosen = np.random.default_rng(1).permutation(50)[:23]
    copy = ImageSet(images[torch.from_numpy(chosen)].clone(), labels[torch.from_numpy(chosen)])
    hashes = module._hash_of(copy)
    monkeypatch.setattr(module, "_PIECE", 200)
    view = ImageSet(images, labels).subset(torch.from_numpy(chosen))
    assert channel_statistics(view) == channel_statistics(copy)
    assert module._hash_of(view) == hashes


class Sizes(TorchDispatchMode):
    """Bytes of the largest tensor that an operation makes, views of its inputs left out."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in inputs:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("shape", [(3000, 3, 64, 64), (9, 3, 1024, 1024), (1, 3, 8192, 1024)])
def test_no_copy_of_all_images_is_made(shape: tuple[int, ...]) -> None:
    images = random_images(*shape)
    with Sizes() as sizes:
        channel_statistics(ImageSet(images, torch.zeros(len(images))))
        if len(images) > 1:
            half = ImageSet(images, torch.zeros(len(images))).subset(torch.arange(0, len(images), 2))
            module._hash_of(half)
            channel_statistics(half)
    assert 0 < sizes.largest <= 4 * module._PIECE < 4 * images.numel() / 1.5


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ({}, 0.305464, 0.37609),
        ({"num_train": 500}, 0.305195, 0.375795),  # by way of float32; the exact deviation is 0.375794487
        ({"image_size": 16, "num_channels": 3}, 0.305464, 0.318914),
    ],
)
def test_those_of_digits_are_what_they_were(values: dict[str, Any], mean: float, std: float) -> None:
    """Recorded when torch computed them in float32 over all pixels at once: the bits of every run depend on them."""
    loaded = load_dataset(DataConfig.model_validate(values))
    assert set(loaded.mean) == {mean}
    assert set(loaded.std) == {std}
