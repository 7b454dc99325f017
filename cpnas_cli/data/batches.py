"""Batches: normalized, augmented and mixed, on the device that the images live on."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cpnas_cli.data.augmentation import cropped, cut_out, draw_augmentation, rotated, varied_colours
from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.data.mixing import Mixing, epoch_seed, mixed
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
        return self._standardize(images_BCHW / 255)

    def _standardize(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels in [0, 1], which are overwritten."""
        mean, scale = self._mean_and_scale(pixels_BCHW.device)
        return pixels_BCHW.sub_(mean).mul_(scale).contiguous(memory_format=torch.channels_last)

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
        mixing: Mixing | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in random order; the images of an incomplete last batch are left out.

        Order, augmentation and mixing depend on (seed, purpose, epoch) only.

        Args:
          positions: those in each batch whose images this process takes, on their device; without it all.
          mixing: how images are mixed with others of the whole batch; the labels are shares (B, K) then.
        """
        batch_size = min(batch_size, len(images))
        order_N, noise_NA = self.draw_epoch(images, seed=seed, purpose=purpose, epoch=epoch)
        starts = range(0, len(images) - batch_size + 1, batch_size)
        if mixing is None:
            for start in starts:
                chosen = slice(start, start + batch_size) if positions is None else start + positions
                yield self.training_batch(images, order_N[chosen], noise_NA[chosen])
            return
        mixes = mixing.draw_epoch(
            len(starts),
            batch_size=batch_size,
            image_size=self.config.image_size,
            seed=epoch_seed(seed, purpose, epoch),
        )
        for start, mix in zip(starts, mixes, strict=True):
            whole = slice(start, start + batch_size)
            x_BCHW, labels_B = self.training_batch(images, order_N[whole], noise_NA[whole])
            # every process mixes the whole batch and takes its share: a partner may be in that of another
            x_BCHW, shares_BK = mixed(x_BCHW, labels_B, mix, num_classes=mixing.num_classes)
            yield (x_BCHW, shares_BK) if positions is None else (x_BCHW[positions], shares_BK[positions])

    def draw_epoch(self, images: ImageSet, *, seed: int, purpose: str, epoch: int) -> tuple[Tensor, Tensor]:
        """The order of the images (N,) and the noise of their augmentation (N, A), on the device of the images."""
        generator = torch_generator(seed, purpose, epoch)
        order_N = torch.randperm(len(images), generator=generator)
        noise_NA = draw_augmentation(self.config, len(images), generator)
        return order_N.to(images.labels.device), noise_NA.to(images.labels.device)

    def training_batch(self, images: ImageSet, indices_B: Tensor, noise_BA: Tensor) -> tuple[Tensor, Tensor]:
        """The images of these indices, augmented by their noise, and their labels."""
        pixels_BCHW = varied_colours(images.at(indices_B) / 255, noise_BA, self.config)
        return self.augment(self._standardize(pixels_BCHW), noise_BA), images.labels[indices_B]

    def augment(self, x_BCHW: Tensor, noise_BA: Tensor) -> Tensor:
        """Normalized images, turned, cropped, mirrored and cut out by their noise: a border is the mean."""
        x_BCHW = rotated(x_BCHW, noise_BA, self.config)
        return cut_out(cropped(x_BCHW, noise_BA, self.config), noise_BA, self.config)

    def evaluation_batches(self, images: ImageSet, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order, as it is."""
        for start in range(0, len(images), batch_size):
            part = images.part(start, start + batch_size)
            yield self.normalize(part.images), part.labels
