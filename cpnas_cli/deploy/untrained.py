"""A packed model that was never trained: as large and as fast as a trained one of its genotype and settings."""

from typing import TYPE_CHECKING

import numpy as np

from cpnas_cli.deploy.packed_file import PackedModel, array_sizes, array_types
from cpnas_cli.networks.layers import Surroundings, layers_of
from cpnas_cli.search_space import Genotype

if TYPE_CHECKING:
    from cpnas_cli.data.dataset import Dataset
    from cpnas_cli.settings import Config


def surroundings_of(config: "Config", dataset: "Dataset") -> Surroundings:
    """What surrounds the cells of a network for these images."""
    return Surroundings(config.data.image_size, dataset.num_image_channels, dataset.num_classes)


def untrained_model(genotype: Genotype, config: "Config", dataset: "Dataset") -> PackedModel:
    """With random signs and weights, and thresholds of 0; the same every time."""
    settings, surroundings = config.network, surroundings_of(config, dataset)
    types = array_types(settings)
    sizes = array_sizes(settings, layers_of(settings, genotype, surroundings, precision="binary"))
    generator = np.random.default_rng(0)
    arrays = {
        "bits": generator.integers(0, 256, sizes["bits"], dtype=np.uint8),
        "thresholds": np.zeros(sizes["thresholds"], np.int8),
        "values": generator.uniform(-1, 1, sizes["values"]).astype(types["values"]),
    }
    if "weights" in types:
        arrays["weights"] = generator.integers(-127, 128, sizes["weights"]).astype(types["weights"])
    return PackedModel(
        settings=settings,
        genotype=genotype,
        classes=dataset.classes,
        image_size=config.data.image_size,
        num_image_channels=dataset.num_image_channels,
        mean=dataset.mean,
        std=dataset.std,
        fit=config.data.fit,
        **arrays,
    )
