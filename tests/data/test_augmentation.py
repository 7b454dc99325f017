"""Rotation and colour against loops and torchvision; mixup and cutmix against their formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as reference

from cpnas_cli.data.augmentation import (
    ANGLE,
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    draw_augmentation,
    rotated,
    varied_colours,
)
from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.data.mixing import Mix, Mixing, cut_mix, epoch_seed, mixed
from cpnas_cli.settings import DataConfig

STEPS = 2**24


def noise_images(count: int, *, channels: int = 3, size: int = 8) -> ImageSet:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(count) % 5)


def pipeline(channels: int = 3, **values: Any) -> Pipeline:
    return Pipeline(DataConfig.model_validate(values), (0.4,) * channels, (0.25,) * channels)


def rotated_by_loop(image_HW: np.ndarray, angle: float) -> np.ndarray:
    """Each pixel read where a turn by the angle takes it, a weighted mean of 4 neighbours; outside is 0."""
    size = len(image_HW)
    middle = (size - 1) / 2
    result = np.zeros_like(image_HW)
    for row in range(size):
        for column in range(size):
            x, y = column - middle, row - middle
            from_x = math.cos(angle) * x - math.sin(angle) * y + middle
            from_y = math.sin(angle) * x + math.cos(angle) * y + middle
            for r in (math.floor(from_y), math.floor(from_y) + 1):
                for c in (math.floor(from_x), math.floor(from_x) + 1):
                    if 0 <= r < size and 0 <= c < size:
                        result[row, column] += (1 - abs(from_y - r)) * (1 - abs(from_x - c)) * image_HW[r, c]
    return result


@pytest.mark.parametrize("size", [5, 8])
def test_a_rotation_is_the_loop_over_pixels(size: int) -> None:
    config = DataConfig(image_size=size, rotation=30)
    images = torch.randn(6, 2, size, size, generator=torch.Generator().manual_seed(0))
    noise = torch.zeros(6, 9, dtype=torch.long)
    parts = [0, 0.25, 0.5, 0.75, 0.9, 1]
    noise[:, ANGLE] = torch.tensor([int(part * STEPS) for part in parts])
    result = rotated(images, noise, config).numpy()
    for index, part in enumerate(parts):
        for channel in range(2):
            expected = rotated_by_loop(images[index, channel].double().numpy(), math.radians(60 * part - 30))
            np.testing.assert_allclose(result[index, channel], expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_vary_as_those_of_torchvision(channels: int) -> None:
    config = DataConfig(colour=0.5)
    pixels = torch.rand(20, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = draw_augmentation(config, 20, torch.Generator().manual_seed(1))
    result = varied_colours(pixels.clone(), noise, config)
    for index in range(20):
        brightness, contrast, saturation = (
            0.5 + noise[index, column].item() / STEPS for column in (BRIGHTNESS, CONTRAST, SATURATION)
        )
        expected = reference.adjust_brightness(pixels[index], brightness)
        expected = reference.adjust_contrast(expected, contrast)
        if channels == 3:
            expected = reference.adjust_saturation(expected, saturation)
        torch.testing.assert_close(result[index], expected, rtol=1e-5, atol=1e-5)
    assert (result - pixels).abs().max() > 0.2


def test_colours_vary_before_a_batch_is_normalized() -> None:
    images = noise_images(12)
    under_test = pipeline(colour=0.3)
    order, noise = under_test.draw_epoch(images, seed=0, purpose="p", epoch=0)
    x, labels = under_test.training_batch(images, order, noise)
    pixels = varied_colours(images.images[order] / 255, noise, under_test.config)
    torch.testing.assert_close(x, (pixels - 0.4) / 0.25, rtol=1e-5, atol=1e-5)
    assert torch.equal(labels, images.labels[order])


@pytest.mark.parametrize("values", [{"rotation": 10}, {"colour": 0.1}, {"rotation": 10, "colour": 0.1}])
def test_what_was_drawn_before_stays_the_same_numbers(values: dict[str, Any]) -> None:
    """An epoch without rotation and colour has the numbers that it always had, and with them they only come after."""
    images = noise_images(50)
    without = pipeline(crop_padding=2, flip=True, cutout=3).draw_epoch(images, seed=4, purpose="p", epoch=1)
    order, noise = pipeline(crop_padding=2, flip=True, cutout=3, **values).draw_epoch(
        images, seed=4, purpose="p", epoch=1
    )
    assert without[1].shape == (50, 5)
    assert torch.equal(order, without[0])
    assert torch.equal(noise[:, :5], without[1])
    assert noise.shape == (50, 9)
    assert noise[:, 5:].min() >= 0
    assert noise[:, 5:].max() < STEPS
    assert (noise[:, 5:].double().mean(dim=0) / STEPS - 0.5).abs().max() < 0.2  # 5 deviations of a mean of 50


def test_an_image_varies_alike_alone_and_in_a_batch() -> None:
    """Processes and parts of a batch must see the same images to the last bit."""
    images = noise_images(16)
    under_test = pipeline(rotation=25, colour=0.4, crop_padding=1, flip=True, cutout=3)
    order, noise = under_test.draw_epoch(images, seed=0, purpose="p", epoch=0)
    whole, _ = under_test.training_batch(images, order, noise)
    for index in range(16):
        alone, _ = under_test.training_batch(images, order[index : index + 1], noise[index : index + 1])
        assert torch.equal(alone[0], whole[index])


# ---------------------------------------------------------------- mixup and cutmix


@pytest.mark.parametrize("box", [None, (2, 5, 0, 8), (0, 8, 0, 8), (3, 3, 1, 4)])
def test_mixed_images_by_loop(box: tuple[int, int, int, int] | None) -> None:
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 0])
    x, shares = mixed(images, labels, Mix(2, 0.3, box), num_classes=4)
    for index in range(5):
        partner = (index + 2) % 5
        for row in range(8):
            for column in range(8):
                if box is None:
                    expected = 0.3 * images[index, :, row, column] + 0.7 * images[partner, :, row, column]
                else:
                    inside = box[0] <= row < box[1] and box[2] <= column < box[3]
                    expected = images[partner if inside else index, :, row, column]
                torch.testing.assert_close(x[index, :, row, column], expected)
        expected_shares = np.zeros(4)
        expected_shares[labels[index]] += 0.3
        expected_shares[labels[partner]] += 0.7
        np.testing.assert_allclose(shares[index].numpy(), expected_shares, atol=1e-6)


@pytest.mark.parametrize(
    ("share", "row", "column", "box"),
    [
        (0.75, 4, 4, (2, 6, 2, 6)),  # a side of half of 8
        (0.75, 0, 7, (0, 2, 5, 8)),  # clipped at two edges
        (1.0, 4, 4, (4, 4, 4, 4)),  # nothing
        (0.0, 4, 4, (0, 8, 0, 8)),  # all
    ],
)
def test_the_share_is_what_the_box_leaves(share: float, row: int, column: int, box: tuple[int, int, int, int]) -> None:
    mix = cut_mix(1, share, row=row, column=column, image_size=8)
    assert mix.box == box
    assert mix.share == 1 - (box[1] - box[0]) * (box[3] - box[2]) / 64


def test_how_batches_are_mixed_is_drawn_as_said() -> None:
    mixes = list(Mixing(0.4, 1.0, 10).draw_epoch(2000, batch_size=7, image_size=8, seed=0))
    cut = [mix for mix in mixes if mix.box is not None]
    assert 890 < len(cut) < 1110  # 5 deviations of 2000 fair coins
    assert np.bincount([mix.shift for mix in mixes]).tolist()[0] == 0
    assert set(np.unique([mix.shift for mix in mixes])) == set(range(1, 7))
    shares = np.array([mix.share for mix in mixes if mix.box is None])
    assert abs(shares.mean() - 0.5) < 0.06
    assert abs(shares.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.02  # of Beta(a, a)
    for mixing, cuts in ((Mixing(0.4, 0, 10), False), (Mixing(0, 1.0, 10), True)):
        only = list(mixing.draw_epoch(50, batch_size=2, image_size=8, seed=0))
        assert {mix.box is not None for mix in only} == {cuts}
        assert {mix.shift for mix in only} == {1}


def test_a_mixed_epoch_depends_on_seed_purpose_and_epoch_only() -> None:
    images = noise_images(30)

    def labels_of(**other: Any) -> torch.Tensor:
        options = {"batch_size": 6, "seed": 0, "purpose": "p", "epoch": 0, **other}
        batches = pipeline(flip=True).training_batches(images, mixing=Mixing(1.0, 1.0, 5), **options)
        return torch.cat([shares for _, shares in batches])

    assert torch.equal(labels_of(), labels_of())
    for other in ({"seed": 1}, {"purpose": "q"}, {"epoch": 1}):
        assert not torch.equal(labels_of(), labels_of(**other))
    epochs = [(0, "p", 0), (1, "p", 0), (0, "q", 0), (0, "p", 1)]
    shares = {
        tuple(mix.share for mix in Mixing(1.0, 0, 5).draw_epoch(3, batch_size=6, image_size=8, seed=epoch_seed(*epoch)))
        for epoch in epochs
    }
    assert len(shares) == 4


def test_processes_share_a_mixed_batch() -> None:
    """A partner may be in another process's share."""
    images = noise_images(24)

    def batches(positions: torch.Tensor | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        under_test = pipeline(rotation=20, colour=0.3, crop_padding=1)
        options: dict[str, Any] = {"batch_size": 8, "seed": 0, "purpose": "p", "epoch": 0}
        return list(under_test.training_batches(images, mixing=Mixing(0.5, 0.5, 5), positions=positions, **options))

    halves = batches(torch.arange(4)), batches(torch.arange(4, 8))
    for whole, first, second in zip(batches(None), *halves, strict=True):
        for part, expected in enumerate(whole):
            assert torch.equal(torch.cat([first[part], second[part]]), expected)
