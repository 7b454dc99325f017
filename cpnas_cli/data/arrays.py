"""Images that come as arrays, in the size, with the channels and as many as the settings ask for."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from cpnas_cli.data.dataset import ImageSet
from cpnas_cli.data.source import LoadedImages
from cpnas_cli.data.splits import balanced_subset
from cpnas_cli.settings import DataConfig


def from_arrays(
    config: DataConfig, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: Sequence[str]
) -> LoadedImages:
    """
    Args:
      train, test: uint8 images (N, C, H, W) with 1 or 3 channels, and int64 labels (N,).
    """
    return LoadedImages(
        _prepared(config, *train, size=config.num_train), _prepared(config, *test, size=config.num_test), classes
    )


def _prepared(config: DataConfig, images: Tensor, labels: Tensor, *, size: int | None) -> ImageSet:
    indices = torch.tensor(balanced_subset(labels.tolist(), size))
    images, labels = images[indices], labels[indices]
    if images.shape[-1] != config.image_size:
        images = resize(images, [config.image_size, config.image_size], antialias=True)
    if config.num_channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1).contiguous()
    elif config.num_channels == 1 and images.shape[1] == 3:
        luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        images = (images * luma).sum(dim=1, keepdim=True).round().to(torch.uint8)
    return ImageSet(images, labels)
