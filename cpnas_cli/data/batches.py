"""Batches: normalization and augmentation, on the device that the images live on."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.randomness import torch_generator
from cpnas_cli.settings import DataConfig


@dataclass(frozen=True)
class Pipeline:
    """From uint8 images on the device to normalized float batches, with or without augmentation."""

    config: DataConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    _constants: dict[torch.device, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def normalize(self, images_BCHW: Tensor) -> Tensor:
        """uint8 -> float32 with mean 0 and deviation 1 per channel, channels_last."""
        mean, scale = self._mean_and_scale(images_BCHW.device)
        return (images_BCHW / 255).sub_(mean).mul_(scale).contiguous(memory_format=torch.channels_last)

    def _mean_and_scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """On the device, made once: a copy from the host in every step would wait for the device."""
        if device not in self._constants:
            mean = torch.tensor(self.mean).view(1, -1, 1, 1)
            scale = 1 / torch.tensor(self.std).view(1, -1, 1, 1)
            self._constants[device] = mean.to(device), scale.to(device)
        return self._constants[device]

    def training_batches(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        seed: int,
        purpose: str,
        epoch: int,
        positions: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order; the images of an incomplete last batch are left out.

        Order and augmentation depend on (seed, purpose, epoch) only.

        Args:
          positions: those in each batch whose images this process takes, on their device; without it all.
        """
        batch_size = min(batch_size, len(images))
        order_N, noise_N5 = self.draw_epoch(images, seed=seed, purpose=purpose, epoch=epoch)
        for start in range(0, len(images) - batch_size + 1, batch_size):
            end = start + batch_size
            chosen = slice(start, end) if positions is None else start + positions
            yield self.training_batch(images, order_N[chosen], noise_N5[chosen])

    def draw_epoch(self, images: ImageSet, *, seed: int, purpose: str, epoch: int) -> tuple[Tensor, Tensor]:
        """The order of the images (N,) and the noise of their augmentation (N, 5), on the device of the images."""
        generator = torch_generator(seed, purpose, epoch)
        order_N = torch.randperm(len(images), generator=generator)
        noise_N5 = self._draw_augmentation(len(images), generator)
        return order_N.to(images.labels.device), noise_N5.to(images.labels.device)

    def training_batch(self, images: ImageSet, indices_B: Tensor, noise_B5: Tensor) -> tuple[Tensor, Tensor]:
        """The images of these indices, augmented by their noise, and their labels."""
        return self._augment(self.normalize(images.images[indices_B]), noise_B5), images.labels[indices_B]

    def evaluation_batches(self, images: ImageSet, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order, as it is."""
        for start in range(0, len(images), batch_size):
            yield self.normalize(images.images[start : start + batch_size]), images.labels[start : start + batch_size]

    def _draw_augmentation(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Integers (N, 5): row and column of the crop, mirrored or not, row and column of the cutout."""
        size, crop = self.config.image_size, 2 * self.config.crop_padding + 1
        highs = (crop, crop, 2, size, size)
        return torch.stack([torch.randint(high, (num_images,), generator=generator) for high in highs], dim=1)

    def _augment(self, x_BCHW: Tensor, noise_B5: Tensor) -> Tensor:
        size, padding = self.config.image_size, self.config.crop_padding
        pixel = torch.arange(size, device=x_BCHW.device)
        if padding or self.config.flip:
            rows_BS = pixel + noise_B5[:, 0:1]
            columns_BS = pixel.expand(len(x_BCHW), -1)
            if self.config.flip:
                columns_BS = torch.where(noise_B5[:, 2:3] == 1, columns_BS.flip(1), columns_BS)
            columns_BS = columns_BS + noise_B5[:, 1:2]
            batch_B11 = torch.arange(len(x_BCHW), device=x_BCHW.device)[:, None, None]
            padded_BHWC = F.pad(x_BCHW, (padding,) * 4).permute(0, 2, 3, 1)
            x_BCHW = padded_BHWC[batch_B11, rows_BS[:, :, None], columns_BS[:, None, :]].permute(0, 3, 1, 2)
        if self.config.cutout:
            half = self.config.cutout // 2
            start_B2 = noise_B5[:, 3:5] - half
            inside = (pixel >= start_B2[..., None]) & (pixel < start_B2[..., None] + self.config.cutout)  # (B, 2, S)
            hole_BHW = inside[:, 0, :, None] & inside[:, 1, None, :]
            x_BCHW = x_BCHW.masked_fill(hole_BHW[:, None], 0)
        return x_BCHW
