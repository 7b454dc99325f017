"""A trained Child beside its Parent, as `cpnas efficiency measure` compares them."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from cpnas_cli.data.batches import Pipeline
from cpnas_cli.data.dataset import ImageSet, load_dataset
from cpnas_cli.deploy.packed_file import PackedModel
from cpnas_cli.deploy.packing import pack
from cpnas_cli.errors import RunError
from cpnas_cli.networks.network import Network
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.training.evaluation import pipeline_of
from cpnas_cli.training.trained_network import TrainedNetwork, read_all_trained


@dataclass(frozen=True)
class TrainedPair:
    """What is measured: a Child, also packed, its Parent, and real images."""

    run: RunFolder
    child: TrainedNetwork
    packed: PackedModel
    parent: Network
    parent_is_trained: bool
    test_images: Tensor  # uint8 (N, C, S, S)
    train_images: ImageSet

    @property
    def pipeline(self) -> Pipeline:
        return pipeline_of(self.child)


def read_pair(path: Path, *, data_dir: Path | None) -> TrainedPair:
    """A training's Child and its Parent; a run without one gets an untrained one, which takes as long.

    Raises:
      RunError: the folder holds no trained Child. CheckpointError, DataError, UsageError.
    """
    run = RunFolder(path)
    child, *parents = read_all_trained(run)
    if child.name != "child":
        raise RunError(
            f"{path} holds a Parent only, there is no 1-bit network to measure; train without --precision full"
        )
    parent = parents[0].network if parents else child.untrained_parent()
    dataset = load_dataset(child.data_settings(data_dir))
    return TrainedPair(run, child, pack(child), parent, bool(parents), dataset.test.images, dataset.train)
