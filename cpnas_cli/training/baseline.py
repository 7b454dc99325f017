"""The training of the plain CNN that a 1-bit network is held against, and its file, `cpnas.baseline/1`.

It is trained as a Parent is: the same images, batches, epochs, optimizer, rate and moving average; without what needs
cells: auxiliary head, drop-path.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from cpnas_cli.data.dataset import Dataset
from cpnas_cli.errors import CheckpointError
from cpnas_cli.networks.layers import Surroundings
from cpnas_cli.networks.modules.plain_cnn import PlainCnn, build_plain_cnn
from cpnas_cli.networks.shapes import NetworkName
from cpnas_cli.runs.deadline import Deadline
from cpnas_cli.runs.folder import RunFolder
from cpnas_cli.runs.journal import Notify, ignore
from cpnas_cli.settings import Config
from cpnas_cli.storage.documents import TRAINING_SCHEMA
from cpnas_cli.storage.tensors import load_into, load_tensors, save_tensors
from cpnas_cli.training.network_training import NetworkTraining
from cpnas_cli.training.trained_network import Normalization
from cpnas_cli.training.training import Training

BASELINE: NetworkName = "baseline"
BASELINE_SCHEMA = "cpnas.baseline/1"
BASELINE_MODEL = "baseline.safetensors"


def baseline_document(width: int) -> dict[str, Any]:
    """`training.json` of a baseline's run: what tells it from other trainings."""
    return {"schema": TRAINING_SCHEMA, "networks": [BASELINE], "width": width}


def surroundings_of(dataset: Dataset, config: Config) -> Surroundings:
    return Surroundings(config.data.image_size, dataset.num_image_channels, dataset.num_classes)


class BaselineTraining(Training):
    """The training of a plain CNN; see `Training`.

    Args:
      width: w, channels of its first convolution.
    """

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        dataset: Dataset,
        *,
        width: int,
        fabric: Fabric,
        deadline: Deadline,
        notify: Notify = ignore,
    ) -> None:
        super().__init__(
            run,
            config,
            None,
            dataset,
            fabric=fabric,
            networks=(BASELINE,),
            provenance={},
            deadline=deadline,
            notify=notify,
        )
        self.width = width

    def _build(self, name: NetworkName) -> PlainCnn:
        del name
        return build_plain_cnn(self.width, surroundings_of(self.dataset, self.config), seed=self.config.seed)

    def _new_auxiliary_head(self, name: NetworkName, network: PlainCnn) -> None:
        """None: it has no reduction cell."""

    def _kept(self, training: NetworkTraining, *, step: int) -> Iterator[Tensor]:
        """Nothing: it has no edges to drop."""
        del training, step
        return iter(())

    def _save_network(self, network: PlainCnn) -> None:
        self._write(network, BASELINE_MODEL)

    def _save_best(self, network: PlainCnn) -> None:
        self._write(network, RunFolder.BEST_MODEL)

    def _write(self, network: PlainCnn, name: str) -> None:
        normalization = Normalization(self.dataset.mean, self.dataset.std)
        write_baseline(TrainedBaseline(network, normalization), self.run.file(name))

    def _result(self) -> dict[str, Any]:
        return {**super()._result(), "width": self.width}

    def _precision_parts(self) -> dict[str, list[str]]:
        return {"binary": [], "real": ["3x3 convolutions", "batch norm", "classifier"]}


@dataclass(frozen=True, eq=False)
class TrainedBaseline:
    """A plain CNN with its weights; read from a file it is on the CPU, in evaluation mode.

    Attributes:
      normalization: of the images that it was trained with.
    """

    network: PlainCnn
    normalization: Normalization


class _Description(BaseModel):
    """The state in the header of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: int = Field(ge=1, le=4096)
    image_size: int = Field(ge=4, le=1024)
    num_image_channels: Literal[1, 3]
    num_classes: int = Field(ge=2, le=1_000_000)
    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...]


def write_baseline(trained: TrainedBaseline, path: Path) -> None:
    """Replace the file by this network.

    Raises:
      RunError: it cannot be written; the old file is as it was.
    """
    shape = trained.network.shape
    state = {
        "width": trained.network.width,
        "image_size": shape.image_size,
        "num_image_channels": shape.num_image_channels,
        "num_classes": shape.num_classes,
        "mean": list(trained.normalization.mean),
        "std": list(trained.normalization.std),
    }
    save_tensors(path, trained.network.state_dict(), schema=BASELINE_SCHEMA, state=state)


def read_baseline(path: Path) -> TrainedBaseline:
    """The plain CNN of a file.

    Raises:
      CheckpointError: there is no such file, or it is truncated, of another schema, or not described by its header.
    """
    tensors, state = load_tensors(path, schema=BASELINE_SCHEMA)
    try:
        description = _Description.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(
            f"{path} has a wrong {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}; train the network again"
        ) from None
    shape = Surroundings(description.image_size, description.num_image_channels, description.num_classes)
    network = build_plain_cnn(description.width, shape, seed=0)
    load_into(network, tensors, path=path)
    return TrainedBaseline(network.eval(), Normalization(description.mean, description.std))
