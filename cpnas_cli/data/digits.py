"""scikit-learn's digits: 1,797 real images of 8x8 pixels, nothing to download."""

from typing import Any

from cpnas_cli.data.source import ImageSource, LoadedImages
from cpnas_cli.settings import DataConfig


class Digits(ImageSource):
    """Of each class every fifth image is a test image (ours: the set has no split)."""

    def check(self, config: DataConfig) -> None:
        if config.dir is not None:  # its numbers would be taken for those of one's own images
            raise ValueError(
                f"data.name={self.name} reads no folder; for your own images use --preset folder, "
                "or --set data.name=folder"
            )

    def load(self, config: DataConfig) -> LoadedImages:
        import numpy as np
        import torch
        from sklearn.datasets import load_digits

        from cpnas_cli.data.arrays import from_arrays

        bunch: Any = load_digits()
        images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
        labels = torch.from_numpy(bunch.target.astype(np.int64))
        is_test = torch.zeros(len(labels), dtype=torch.bool)
        for label in range(10):
            is_test[(labels == label).nonzero()[::5, 0]] = True
        train, test = (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
        return from_arrays(config, train, test, [str(label) for label in range(10)])


DIGITS = Digits("digits", num_image_channels=1, num_classes=10)
