"""What could not be trained, refused before anything is written."""

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.processes import check_shares
from cpnas_cli.errors import UsageError
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.search_space import Genotype
from cpnas_cli.settings import Config
from cpnas_cli.training.initial import initial_weights
from cpnas_cli.training.teacher import check_teacher


def check_of_genotype(
    genotype: Genotype, networks: Sequence[NetworkName], folder: Path
) -> Callable[[Config, Dataset, Fabric], None]:
    """`check_training`, and, before a training's first epoch, that the weights that it is to begin with fit it.

    Args:
      networks: those that are trained, the one that was asked for first.
      folder: of the run, which may be there already.
    """

    def check(config: Config, dataset: Dataset, fabric: Fabric) -> None:
        check_training(config, dataset, fabric)
        if not RunFolder(folder).checkpoint.exists():
            for name in networks:
                initial_weights(name, config, genotype, dataset, is_wanted=name == networks[0])

    return check


def check_training(config: Config, dataset: Dataset, fabric: Fabric | None) -> None:
    """Refuse batches that the processes of a training could not share evenly or mix, and a teacher of other images.

    Args:
      fabric: None where it is not known yet, and will be of one process.

    Raises:
      UsageError: see `check_shares` and `check_teacher`; or a batch has one image, and no other to mix it with.
      CheckpointError: the teacher's file is damaged.
    """
    train = config.train
    for name, alpha in (("mixup", train.mixup), ("cutmix", train.cutmix)):
        if alpha > 0 and min(train.batch_size, len(dataset.train)) == 1:
            raise UsageError(
                f"train.{name}={alpha:g} mixes every image with another of its batch, and a batch of this training has "
                f"one image; use more training images, or --set train.{name}=0"
            )
    check_shares(
        batch_size=train.batch_size,
        num_parts=train.gradient_accumulation_steps,
        num_processes=1 if fabric is None else fabric.world_size,
        num_images=len(dataset.train),
    )
    check_teacher(config, dataset)
