"""Every term of the loss is on the device of the network, also those that a Child has nothing for.

PyTorch's meta device stands for a GPU: its tensors do not mix with those of the CPU either.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from children import everywhere

from cpnas_cli.data.dataset import Dataset, ImageSet
from cpnas_cli.networks.network import Output
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import load_config
from cpnas_cli.training.training import Training
from cpnas_cli.training.training_loss import TrainingLoss

META = torch.device("meta")


def make_training(path: Path, *settings: str) -> Training:
    """Of a Child without any 1-bit convolution: all edges pool, and both real parts are real."""
    config = load_config(
        overrides=[
            "network.num_channels=4",
            "network.real_parts=[preprocessing, factorized_reduction]",
            "train.lambda_compactness=0.1",
            *settings,
        ]
    )
    images = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    fabric: Any = SimpleNamespace(device=META, world_size=1, global_rank=0)
    return Training(
        RunFolder(path),
        config,
        everywhere("max_pool_3x3"),
        Dataset(images, images, ("a", "b"), (0.5,), (0.2,)),
        fabric=fabric,
        networks=("child", "parent"),
        provenance={},
        deadline=Deadline(None),
    )


@pytest.mark.parametrize("name", ["child", "parent"])
@pytest.mark.parametrize("settings", [(), ("train.lambda_compactness=0",), ("train.kernel_weight=0",)])
def test_every_term_is_on_the_device_of_the_network(name: Any, settings: tuple[str, ...], tmp_path: Path) -> None:
    training = make_training(tmp_path, *settings)
    stage = training._new_network_training(name)
    assert list(stage.network.latent_filters()) == []
    images = training.dataset.train
    x_BCHW = training.pipeline.normalize(images.images)
    output: Output = stage.network(x_BCHW)
    terms = TrainingLoss(stage, training.fabric)(x_BCHW, output, images.labels)
    devices = {key: value.device for key, value in vars(terms).items()}
    assert devices == dict.fromkeys(("total", "cross_entropy", "kernel", "compactness", "teacher", "auxiliary"), META)
    assert (stage.class_means is not None) == (name == "child" and "train.lambda_compactness=0" not in settings)
