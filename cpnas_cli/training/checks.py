"""What could not be trained, refused before anything is written."""

from lightning_fabric import Fabric

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.distributed.processes import check_shares
from cpnas_cli.settings import Config


def check_training(config: Config, dataset: Dataset, fabric: Fabric) -> None:
    """Refuse batches that the processes of a training could not share evenly.

    Raises:
      UsageError: see `check_shares`.
    """
    check_shares(
        batch_size=config.train.batch_size,
        num_parts=config.train.gradient_accumulation_steps,
        num_processes=fabric.world_size,
        num_images=len(dataset.train),
    )
