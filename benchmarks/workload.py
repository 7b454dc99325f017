"""What is worked on: shapes of networks and batches, their settings, and images made of noise."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.settings import Config, DataConfig, NetworkConfig, SearchConfig, TrainConfig


class Shape(NamedTuple):
    """A network and the batch that it reads."""

    num_cells: int
    num_channels: int
    image_size: int
    batch_size: int

    def column(self) -> dict[str, str]:
        """As the column of a table."""
        return {"cells, channels, pixels, batch": ", ".join(map(str, self))}


SHAPES = (Shape(8, 16, 32, 64), Shape(5, 16, 16, 64), Shape(3, 16, 8, 64))
TINY = Shape(3, 4, 8, 16)


@dataclass(frozen=True)
class Workload:
    """A shape, and how many images of how many classes there are to train on."""

    shape: Shape
    num_images: int
    num_classes: int = 10

    def config(self) -> Config:
        """Cropped and mirrored as CIFAR-10 is; everything else as by default."""
        shape = self.shape
        return Config(
            data=DataConfig(name="cifar10", image_size=shape.image_size, num_channels=3, crop_padding=4, flip=True),
            network=NetworkConfig(num_cells=shape.num_cells, num_channels=shape.num_channels),
            search=SearchConfig(batch_size=shape.batch_size),
            train=TrainConfig(batch_size=shape.batch_size, num_epochs=1000),  # more than are ever measured
        )

    def dataset(self) -> Dataset:
        """Noise, every class as often as the others; how long a training takes does not depend on what it sees."""
        generator = torch.Generator().manual_seed(0)
        size = (self.num_images, 3, self.shape.image_size, self.shape.image_size)
        images = torch.randint(256, size, dtype=torch.uint8, generator=generator)
        train = ImageSet(images, torch.arange(self.num_images) % self.num_classes)
        classes = tuple(str(label) for label in range(self.num_classes))
        return Dataset(train, train, classes, mean=(0.5,) * 3, std=(0.29,) * 3)
