"""The teacher of a Child: a trained network whose scores are soft targets."""

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.collectives import by_first
from cpnas_cli.errors import CheckpointError, RunError, UsageError, shell_word
from cpnas_cli.networks.network import Network
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.settings import Config
from cpnas_cli.training.trained_network import Normalization, TrainedNetwork, read_all_trained, read_trained_file


@dataclass(frozen=True)
class Teacher:
    """A trained network that looks at what its student is shown.

    Attributes:
      network: in evaluation mode.
      scale_C11, shift_C11: from the student's normalization to its own; None where they are the same.
    """

    network: Network
    scale_C11: Tensor | None = None
    shift_C11: Tensor | None = None

    @staticmethod
    def of(trained: TrainedNetwork, student: Normalization, *, device: torch.device) -> "Teacher":
        """Of images that are normalized for the student."""
        network = trained.network.eval().requires_grad_(False).to(device)
        if trained.normalization == student:
            return Teacher(network)
        (mean, std), (own_mean, own_std) = (
            (torch.tensor(values, device=device).view(-1, 1, 1) for values in normalization)
            for normalization in (student, trained.normalization)
        )
        return Teacher(network, std / own_std, (mean - own_mean) / own_std)

    @torch.no_grad()
    def logits(self, x_BCHW: Tensor) -> Tensor:
        """Its scores (B, K)."""
        if self.scale_C11 is not None and self.shift_C11 is not None:
            x_BCHW = x_BCHW * self.scale_C11 + self.shift_C11
        return self.network(x_BCHW).logits


def teacher_of(
    name: NetworkName, config: Config, run: RunFolder, student: Normalization, *, fabric: Fabric
) -> Teacher | None:
    """Who gives a network of a run soft targets; None: nobody.

    Args:
      student: of the images that the network is trained with.

    Raises:
      UsageError: there is no such teacher any more. CheckpointError: its file is gone or damaged.
    """
    train = config.train
    if name != "child" or train.teacher_weight == 0:
        return None
    if train.teacher is not None:
        trained = read_teacher(train.teacher)
    else:  # read back also where it has just been trained, so that a resumed run has the very same
        trained = by_first(fabric, functools.partial(_read_own_parent, run))
    return Teacher.of(trained, student, device=fabric.device)


def _read_own_parent(run: RunFolder) -> TrainedNetwork:
    file = run.file(RunFolder.PARENT_MODEL)
    if not file.exists():
        raise CheckpointError(f"{file}, which teaches the child, is gone; restore it, or start a new run")
    return read_trained_file(file)


def read_teacher(path: str) -> TrainedNetwork:
    """The network of a file; of a run's folder its Parent, or, where it has none, what it has.

    Raises:
      UsageError: there is nothing of this kind. CheckpointError: the file is damaged, or not of this version.
    """
    place = Path(path)
    if place.is_file():
        return read_trained_file(place)
    try:
        found = read_all_trained(RunFolder(place))
    except RunError:
        what = "holds no trained network" if place.exists() else "does not exist"
        raise UsageError(
            f"the teacher {shell_word(place)} {what}; expected the folder of a training, or its model.safetensors; "
            "name another one with --teacher"
        ) from None
    return found[-1]


def check_teacher(config: Config, dataset: Dataset) -> None:
    """Refuse a teacher that does not know the images.

    Raises:
      UsageError: it has other classes, another image size or other channels, or does not exist. CheckpointError.
    """
    if config.train.teacher is None:
        return
    teacher = read_teacher(config.train.teacher)
    expected_and_found = {
        "classes": (list(dataset.classes), list(teacher.classes)),
        "images of data.image_size": (config.data.image_size, teacher.image_size),
        "image channels": (dataset.num_image_channels, teacher.num_image_channels),
    }
    for what, (expected, found) in expected_and_found.items():
        if expected != found:
            raise UsageError(
                f"the teacher {shell_word(config.train.teacher)} has {what} {_short(found)}, this training has "
                f"{_short(expected)}; name another one with --teacher"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
