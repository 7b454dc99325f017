"""A choice of images: which they are, against indexing by numpy; and that none is copied."""

import numpy as np
import torch

from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.data.splits import split_for_search

STORED = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
LABELS = np.arange(20) % 7


def whole() -> ImageSet:
    return ImageSet(torch.from_numpy(STORED), torch.from_numpy(LABELS))


def check(images: ImageSet, places: np.ndarray) -> None:
    """It is the images of these places, however it is asked."""
    assert len(images) == len(places)
    assert tuple(images.shape) == STORED[places].shape
    np.testing.assert_array_equal(images.images.numpy(), STORED[places])
    np.testing.assert_array_equal(images.labels.numpy(), LABELS[places])
    some = np.array([len(places) - 1, 0, 1])
    np.testing.assert_array_equal(images.at(torch.from_numpy(some)).numpy(), STORED[places][some])
    np.testing.assert_array_equal(images.part(1, 3).images.numpy(), STORED[places][1:3])
    np.testing.assert_array_equal(images.part(1, 3).labels.numpy(), LABELS[places][1:3])


def test_choices_of_choices() -> None:
    chosen = np.array([19, 3, 4, 11, 0, 7])
    view = whole().subset(torch.from_numpy(chosen))
    check(whole(), np.arange(20))
    check(view, chosen)
    check(view.subset(torch.tensor([5, 0, 2])), chosen[[5, 0, 2]])
    mask = LABELS % 2 == 0
    check(whole().subset(torch.from_numpy(mask)), np.arange(20)[mask])
    check(view.subset(torch.from_numpy(LABELS[chosen] > 2)), chosen[LABELS[chosen] > 2])
    check(view.part(1, 5).subset(torch.tensor([2, 0, 1])), chosen[1:5][[2, 0, 1]])


def test_nothing_is_copied() -> None:
    """The halves of a search, on the CPU, are read from where the images are; the images are mapped from a file."""
    images = whole()
    halves = split_for_search(images, validation_fraction=0.5, seed=0)
    for half in halves:
        assert half.to(torch.device("cpu")).stored.data_ptr() == images.stored.data_ptr()
        assert half.part(2, 5).stored.data_ptr() == images.stored.data_ptr()


def test_another_device_gets_those_that_are_chosen_and_no_others() -> None:
    half = whole().subset(torch.arange(5)).to(torch.device("meta"))
    assert (half.stored.shape, half.indices) == ((5, 3, 4, 4), None)
